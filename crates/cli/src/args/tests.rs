use std::any::TypeId;

use super::*;
use clap::CommandFactory;

fn check_examples(command: &clap::Command) {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    assert!(help.contains("Example"), "{} has no example", command.get_name());
    for sub in command.get_subcommands() {
        check_examples(sub);
    }
}

#[test]
fn every_command_has_an_example_and_a_line_about_it() {
    Cli::command().debug_assert();
    check_examples(&Cli::command());
}

/// A served command runs in a process whose current directory is not that of the person.
#[test]
fn a_path_of_a_served_command_is_a_place() {
    fn check(command: &clap::Command) {
        let own = ["profile", "passphrase_file", "new_passphrase_file"];
        for arg in command.get_arguments() {
            let is_path = arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
            let name = arg.get_id().as_str();
            assert!(!is_path || own.contains(&name), "{} of {}", name, command.get_name());
        }
        command.get_subcommands().filter(|sub| sub.get_name() != "demo").for_each(check);
    }
    check(&Cli::command());
}

#[test]
fn the_commands_of_the_readme_parse() {
    let id = "00112233445566778899aabbccddeeff";
    for line in [
        "init --label tablet --passphrase-file p",
        "space create shared:household",
        "space list --json",
        "space create shared:household --recovery",
        "space create shared:household --recovery-of-words",
        "space recover shared:household --lost tablet --lost phone",
        "space fingerprint shared:household --json",
        "device quarantine shared:household tablet",
        "device quarantine shared:household tablet --lift --json",
        "space begin-anew shared:household --file-is-lost --json",
        "space policy shared:household --json",
        "space policy personal:ana --set invite=owners --set band=red --set keep=90 --yes",
        "copy a.md --from shared:household --to personal:ana --band red",
        "move a.md --from shared:household --to personal:ana --json",
        "subject export --member phone --out out --space shared:household --json",
        "subject erase --member phone --include-shared --for-ever --out out",
        "import shared:household /tmp --prune",
        "invite shared:household --listen 127.0.0.1:0",
        "join larder1abc",
        "join --code 1234-5678",
        "join --code 1234-5678 192.0.2.7:4433 --json",
        "invite shared:household --qr --qr-png x.png",
        "invite shared:household --code --unattended",
        "serve",
        "serve --no-commands --no-discovery --listen 127.0.0.1:0",
        "sync",
        "sync --with 127.0.0.1:4433",
        "list shared:household --collection files --json --values",
        "get shared:household recipes/soup.md",
        "put shared:household shopping --file -",
        &format!("put shared:household shopping {id} --file x.json"),
        &format!("delete shared:household {id}"),
        "redact shared:household recipes/soup.md title /steps/2 --for-ever",
        "history shared:household recipes/soup.md",
        "show shared:household recipes/soup.md --at 2026-11-21",
        "diff shared:household recipes/soup.md flat now",
        "conflicts shared:household recipes/soup.md",
        "search shared:household text --by words --limit 3",
        "status --profile /tmp/p",
        "check --repair",
        "security",
        "classify shared:household --collection files --json",
        "security shared:household --json",
        "status --metrics",
        "receipts shared:household --export out",
        "audit verify out",
        "export shared:household out --force",
        "prune shared:household --dry-run --json",
        "rekey shared:household",
        "rekey --all --json",
        "purge",
        "purge --new-passphrase",
        "purge --leave",
        "purge --new-passphrase-file p --passphrase-file q",
        "passphrase",
        "passphrase --new-passphrase-file p --passphrase-file q --json",
        "demo --keep out --json --measure",
    ] {
        let parsed = Cli::try_parse_from(std::iter::once("larder").chain(line.split(' ')));
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
    }
}

#[test]
fn wrong_lines_are_refused_and_no_argument_carries_a_passphrase() {
    for line in [
        "import household /tmp",
        "search shared:household",
        "put shared:household shopping",
        "init --passphrase secret",
        "init --passphrase-file a --passphrase-fd 3",
        "search shared:household text --limit 0",
        "join",
        "invite shared:household --code --qr",
        "redact shared:household recipes/soup.md --for-ever",
        "redact shared:household recipes/soup.md title",
        "space policy shared:household --set invite=readers",
        "space policy shared:household --set band=black",
        "space policy shared:household --set keep=long",
        "move a.md --from shared:household",
        "subject export --member phone",
        "rekey",
        "rekey shared:household --all",
        "space begin-anew shared:household",
        "space recover shared:household abandon abandon",
        "space create shared:household --recovery --recovery-of-words",
        "purge --new-passphrase --new-passphrase-file p",
        "purge --new-passphrase secret",
        "passphrase secret",
    ] {
        let parsed = Cli::try_parse_from(std::iter::once("larder").chain(line.split(' ')));
        assert!(parsed.is_err(), "{line}");
    }
}
