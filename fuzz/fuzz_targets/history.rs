#![no_main]

libfuzzer_sys::fuzz_target!(
    init: larder_fuzz::sow("history"),
    |data: &[u8]| larder_fuzz::history(data)
);
