#![no_main]

libfuzzer_sys::fuzz_target!(
    init: larder_fuzz::sow("values"),
    |data: &[u8]| larder_fuzz::values(data)
);
