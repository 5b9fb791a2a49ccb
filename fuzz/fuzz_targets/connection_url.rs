//! Whatever a connection URL is, it is read or refused, in a text without the secret that is in it.
#![no_main]

use diesel_replicas::{NodeConfig, RouterBuilder};
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "hunter2";

fuzz_target!(|text: &str| {
    // Where the input has a `\u{1}`, the secret stands.
    let url = text.replace('\u{1}', SECRET);
    let is_secret = text.contains('\u{1}') && !text.contains(SECRET);
    let told = match RouterBuilder::default().primary(NodeConfig::new(url.as_str()).name("node")).config() {
        // The host, the user and the database are there to be shown.
        Ok(_) => return,
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!is_secret || !told.contains(SECRET), "{told}");
});
