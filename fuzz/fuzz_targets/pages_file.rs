#![no_main]

libfuzzer_sys::fuzz_target!(
    init: larder_fuzz::sow("pages_file"),
    |data: &[u8]| larder_fuzz::pages_file(data)
);
