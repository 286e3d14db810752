//! `larder-audit`: verifies a receipt export and says what it proves.

use std::path::Path;
use std::process::ExitCode;

use larder_audit::{AuditError, verify};

const HELP: &str = "\
Verifies a receipt export with public keys alone.

usage: larder-audit [--json] DIRECTORY
  example: larder-audit ~/household-receipts

exit codes: 0 verified, 1 refuted (the message says what and where), 2 usage or unreadable";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (json, directory) = match arguments.as_slice() {
        ["--help" | "-h"] => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        ["--json", directory] | [directory, "--json"] => (true, *directory),
        [directory] if !directory.starts_with('-') => (false, *directory),
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match verify(Path::new(directory)) {
        Ok(verdict) if json => println!("{}", serde_json::json!(verdict)),
        Ok(verdict) => print!("{verdict}"),
        Err(error) => {
            let refuted = matches!(error, AuditError::Refuted { .. });
            if json {
                let error = error.to_string();
                let outcome =
                    serde_json::json!({ "verified": false, "refuted": refuted, "error": error });
                println!("{outcome}");
            } else if refuted {
                eprintln!("REFUTED  {error}");
            } else {
                eprintln!("{error}");
            }
            return ExitCode::from(if refuted { 1 } else { 2 });
        }
    }
    ExitCode::SUCCESS
}
