//! `larder search`.

use larder::Query;

use crate::args::{By, Search};
use crate::commands::documents::{outline, title};
use crate::exit::Exit;
use crate::home::Call;
use crate::output::{printable, shortened};

const SNIPPET_WIDTH: usize = 100;

pub(crate) async fn run(call: &Call<'_>, args: &Search) -> anyhow::Result<Exit> {
    let out = call.out;
    let profile = call.open().await?;
    let space = profile.space(&args.space).await?;
    let mut query = match args.by {
        By::Words => Query::text(&args.text),
        By::Likeness => Query::similar(&args.text),
        By::Both => Query::both(&args.text),
    };
    if let Some(collection) = &args.collection {
        query = query.collection(collection.as_str());
    }
    let found = space.search(query.limit(usize::from(args.limit))).await?;
    for hit in &found {
        let mut line = outline(&hit.document);
        line.insert("score".to_owned(), hit.score.into());
        line.insert("snippet".to_owned(), hit.snippet.clone().into());
        out.json(&line)?;
        let title = printable(&title(&hit.document.value));
        out.line(&format!("{title}  ({})", hit.document.object))?;
        out.line(&format!("    {}", printable(&shortened(&hit.snippet, SNIPPET_WIDTH))))?;
    }
    if found.is_empty() {
        out.line("Nothing found. Fewer or other words may help, or --by likeness.")?;
    }
    profile.close().await?;
    Ok(Exit::Done)
}
