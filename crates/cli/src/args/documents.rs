//! Arguments of commands on documents.

use clap::{Args, ValueEnum};
use larder_types::{CollectionName, ObjectId, SpaceName};

use super::Place;
use crate::commands::OfBand;

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The space to import into
    pub(crate) space: SpaceName,
    /// The folder, or one file
    pub(crate) folder: Place,
    /// Put documents into the trash whose file is no longer in the folder
    #[arg(long)]
    pub(crate) prune: bool,
    /// You are sure, however many they are
    #[arg(long, requires = "prune")]
    pub(crate) yes: bool,
    /// How sensitive the new documents and their files are: only devices cleared for it get them
    /// [default: as the space's new documents are]
    #[arg(long, value_name = "BAND")]
    pub(crate) band: Option<OfBand>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The space
    pub(crate) space: SpaceName,
    /// Only documents of this collection
    #[arg(long)]
    pub(crate) collection: Option<CollectionName>,
    /// With --json: print values, too
    #[arg(long, requires = "json")]
    pub(crate) values: bool,
}

/// Names one document.
#[derive(Debug, Args)]
pub(crate) struct Pick {
    /// The space
    pub(crate) space: SpaceName,
    /// The document's id, or the path it was imported from
    #[arg(value_name = "ID-OR-PATH")]
    pub(crate) document: String,
    /// The collection whose `path` fields are looked through
    #[arg(long, default_value = "files", value_parser = collection)]
    pub(crate) collection: CollectionName,
}

pub(crate) fn collection(text: &str) -> Result<CollectionName, String> {
    text.parse().map_err(|error: larder_types::NameError| error.to_string())
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) pick: Pick,
    /// Print only the text of an imported text file, byte for byte
    #[arg(long, conflicts_with = "json")]
    pub(crate) text: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The space
    pub(crate) space: SpaceName,
    /// The document's collection
    pub(crate) collection: CollectionName,
    /// The document to change; without it, a new one is made
    pub(crate) id: Option<ObjectId>,
    /// A file with the JSON object, or - for stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Place,
    /// How sensitive a new document is: only devices cleared for it get it [default: green]
    #[arg(long, value_name = "BAND")]
    pub(crate) band: Option<OfBand>,
}

#[derive(Debug, Args)]
pub(crate) struct Search {
    /// The space
    pub(crate) space: SpaceName,
    /// What to look for
    pub(crate) text: String,
    /// Only documents of this collection
    #[arg(long)]
    pub(crate) collection: Option<CollectionName>,
    /// How many results at most
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    /// By words alone, by likeness alone, or by both
    #[arg(long, value_enum, default_value_t = By::Both)]
    pub(crate) by: By,
}

/// How documents are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Words, full text
    Words,
    /// Likeness of vectors
    Likeness,
    /// Both, fused
    Both,
}
