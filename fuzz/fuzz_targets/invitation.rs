#![no_main]

libfuzzer_sys::fuzz_target!(
    init: larder_fuzz::sow("invitation"),
    |data: &[u8]| larder_fuzz::invitation(data)
);
