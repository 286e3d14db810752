#![no_main]

libfuzzer_sys::fuzz_target!(
    init: larder_fuzz::sow("frames"),
    |data: &[u8]| larder_fuzz::frames(data)
);
