#![no_main]

libfuzzer_sys::fuzz_target!(
    init: larder_fuzz::sow("batch"),
    |data: &[u8]| larder_fuzz::batch(data)
);
