#![no_main]

libfuzzer_sys::fuzz_target!(init: larder_fuzz::sow("snapshot_parts"), |data: &[u8]| larder_fuzz::snapshot_parts(data));
