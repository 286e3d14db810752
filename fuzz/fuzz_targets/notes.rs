#![no_main]

libfuzzer_sys::fuzz_target!(
    init: larder_fuzz::sow("notes"),
    |data: &[u8]| larder_fuzz::notes(data)
);
