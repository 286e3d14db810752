#![no_main]

libfuzzer_sys::fuzz_target!(
    init: larder_fuzz::sow("sections"),
    |data: &[u8]| larder_fuzz::sections(data)
);
