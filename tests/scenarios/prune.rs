//! Spaces that prune by themselves.

use larder::{Event, Options};
use serde_json::{Value, json};

use crate::common::{Device, digests_equal, event, soon};
use crate::cuts::{Wire, text};

// A household that nobody tended kept every letter twice for ever, once as it is read and once as
// it was sealed: pruning had to be asked for, on each device, with syncs between.
#[tokio::test(flavor = "multi_thread")]
async fn a_space_prunes_by_itself_once_much_has_become_prunable() {
    let few = || Options::default().prune_from(16 << 10);
    let ana = Device::found_with("Ana", few()).await;
    let ben = ana.admit_with("Ben", few()).await;
    ben.sync().await;
    let (mut at_anas, mut at_bens) = (ana.profile.events(), ben.profile.events());
    let letters = 40;
    for n in 0..letters {
        ana.create(letter(n)).await;
    }
    // Ana's statement goes over, and Ben's comes back; then what each holds.
    let both = async {
        let pruned = |event: &Event| matches!(event, Event::Pruned { .. });
        tokio::join!(event(&mut at_anas, pruned), event(&mut at_bens, pruned))
    };
    let syncs = async {
        loop {
            ben.sync().await;
            tokio::task::yield_now().await;
        }
    };
    let (of_ana, of_ben) = tokio::select! { both = both => both, () = syncs => unreachable!() };
    for told in [of_ana, of_ben] {
        let Event::Pruned { sections, bytes, .. } = told else { unreachable!() };
        assert!(sections >= letters / 4 && bytes > 16 << 10, "{sections} {bytes}");
    }
    digests_equal(&[&ana, &ben]).await;
    let cleo = ana.invite("Cleo").await;
    digests_equal(&[&ana, &ben, &cleo]).await;
}

fn letter(n: u64) -> Value {
    json!({ "text": (n..n + 400).map(|n| (n * n).to_string()).collect::<String>() })
}

// Whoever joined after a pruning got a large document in one piece or not at all: on a bad line,
// never.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_document_that_was_pruned_comes_over_a_line_that_is_cut() {
    let ana = Device::found_with("Ana", Options::default().prune_by_hand()).await;
    let album = ana.create(json!({ "title": "Album" })).await;
    for n in 0..8 {
        ana.put(album, json!({ "page": text(n, 110_000) })).await;
    }
    assert!(ana.space.prune(|_| ()).await.unwrap().sections >= 9);
    let cleo = ana.admit("Cleo").await;
    // About a third of it.
    let wire = Wire::to(ana.address().await, 1_500).await;
    let (profile, address) = (cleo.profile.clone(), wire.address);
    let syncing = tokio::spawn(async move { profile.sync_with(address).await });
    soon("the cut", wire.cut.notified()).await;
    syncing.abort();
    let _ = syncing.await;
    assert_eq!(cleo.value(album).await, None, "half of it is shown");
    ana.put(album, json!({ "page": "the last" })).await;
    let reports = cleo.sync_with(&ana).await;
    assert_eq!(cleo.value(album).await, Some(json!({ "page": "the last" })));
    digests_equal(&[&ana, &cleo]).await;
    let dave = ana.admit("Dave").await;
    let whole = dave.sync_with(&ana).await[0].bytes_in;
    let rest = reports[0].bytes_in;
    assert!(rest + (1 << 19) < whole, "{rest} of {whole} bytes came after the cut");
    digests_equal(&[&ana, &dave]).await;
}
