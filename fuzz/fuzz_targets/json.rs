#![no_main]

libfuzzer_sys::fuzz_target!(
    init: larder_fuzz::sow("json"),
    |data: &[u8]| larder_fuzz::json(data)
);
