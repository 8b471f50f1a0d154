//! The `mezzo` command: a thin user of the library (docs/cli.md).
//!
//! One file a subcommand. Results go to stdout, notes and progress to stderr; a failure is one line on stderr that begins
//! with `error:` and carries the remedy. Exit codes: 0 success, 1 failure, 2 a command line that is not understood.

mod bench;
mod build;
mod compare;
mod convert;
mod devices;
mod inputs;
mod inspect;
mod load;
mod npy;
mod npy_header;
mod npz;
mod output;
mod progress;
mod run;
mod samples;
mod tensorrt;

use clap::{Parser, Subcommand, error::ErrorKind};
use std::process::ExitCode;

/// Trained models in FP16, explicitly and with proof: convert, build an engine, run, compare.
#[derive(Parser)]
#[command(name = "mezzo", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inspect(inspect::Args),
    Convert(convert::Args),
    Build(build::Args),
    Run(run::Args),
    Compare(compare::Args),
    Bench(bench::Args),
    Devices(devices::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    let done = match cli.command {
        Command::Inspect(args) => inspect::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Devices(args) => devices::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            output::error(e.message());
            ExitCode::from(1)
        }
    }
}

/// Help and version are what was asked for; all else is an error of one line.
fn usage(e: &clap::Error) -> ExitCode {
    if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match output::print(e.render().to_string().trim_end()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                output::error(e.message());
                ExitCode::from(1)
            }
        };
    }
    let known =
        |name: &String| <Cli as clap::CommandFactory>::command().get_subcommands().any(|c| c.get_name() == name);
    let command = std::env::args_os().nth(1).and_then(|a| a.into_string().ok()).filter(known);
    let help = command.map_or_else(|| "mezzo --help".into(), |c| format!("mezzo {c} --help"));
    let message = match e.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "a command is missing".into()
        }
        _ => one_line(&e.render().to_string()),
    };
    output::error(&format!("{message}; see '{help}'"));
    ExitCode::from(2)
}

/// What clap has to say before it repeats the usage, on one line.
fn one_line(rendered: &str) -> String {
    let mut text = String::new();
    let lines = rendered.lines().map(str::trim).filter(|l| !l.is_empty());
    for line in lines.take_while(|l| !l.starts_with("Usage:") && !l.starts_with("For more information")) {
        let line = line.strip_prefix("error: ").unwrap_or(line);
        if !text.is_empty() {
            let apart = match line.chars().next() {
                Some('[') => " ",
                _ if text.ends_with(':') => " ",
                Some('<' | '-') => ", ",
                _ => "; ",
            };
            text.push_str(apart);
        }
        text.push_str(line);
    }
    text
}
