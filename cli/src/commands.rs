//! The commands, one file each. A command asks the service, prints the answer and returns the exit code.

mod activate;
mod classifiers;
mod classify;
mod completions;
mod config;
mod diff;
mod doctor;
mod export;
mod generation;
mod generations;
mod import;
mod jobs;
mod lint;
mod metrics;
mod model;
mod monitor;
mod paths;
mod reload;
mod rescan;
mod results;
mod review;
mod sources;
mod start;
mod status;
mod wait;

use crate::args::{Classifier, Cli, Config, Generation, Round, Verb};
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::service::Service;
use jobs::Only;

pub async fn run(cli: Cli) -> Result<Exit, CliError> {
    if let Verb::Completions { shell } = cli.verb {
        return completions::run(shell);
    }
    let output = Output::new(cli.global.json);
    if let Verb::Model(model) = cli.verb {
        return model::run(output, model);
    }
    if let Verb::Config(Config::Check { file }) = cli.verb {
        return config::check(output, &file);
    }
    if let Verb::Lint { file: Some(file) } = cli.verb {
        return lint::file(output, &file);
    }
    if let Verb::Doctor = cli.verb {
        return doctor::run(output, &cli.global.bus).await;
    }
    let meant = match (&cli.verb, &cli.global.classifier) {
        (Verb::Classifier(Classifier::Show { name }), Some(other)) if name != other => {
            return Err(CliError::Usage(format!("two classifiers are named: {name} and --classifier {other}")));
        }
        (Verb::Classifier(Classifier::Show { name }), _) => Some(name.clone()),
        _ => cli.global.classifier,
    };
    let service = Service::connect(&cli.global.bus, meant).await?;
    match cli.verb {
        Verb::Status => status::run(&service, output).await,
        Verb::Classifier(asked) => classifiers::run(&service, output, asked).await,
        Verb::Source(asked) => sources::run(&service, output, asked).await,
        Verb::Classify(classify) => classify::run(&service, output, classify).await,
        Verb::Round(Round::Start(start)) => start::run(&service, output, start).await,
        Verb::Round(Round::Job(asked)) => jobs::run(&service, output, asked, Only::Rounds).await,
        Verb::Job(asked) => jobs::run(&service, output, asked, Only::AllJobs).await,
        Verb::Generation(Generation::List) => generations::run(&service, output).await,
        Verb::Generation(Generation::Show { generation }) => generation::run(&service, output, generation).await,
        Verb::Generation(Generation::Activate { generation }) => activate::run(&service, output, generation).await,
        Verb::Generation(Generation::Diff { old, new, limit }) => diff::run(&service, output, old, new, limit).await,
        Verb::Export { generation, format, dir } => export::run(&service, output, generation, format, dir).await,
        Verb::Import { force, dir } => import::run(&service, output, dir, force).await,
        Verb::Results(asked) => results::run(&service, output, asked).await,
        Verb::Monitor => monitor::run(&service, output).await,
        Verb::Metrics => metrics::run(&service, output).await,
        Verb::Review(asked) => review::run(&service, output, asked).await,
        Verb::Lint { file: Some(file) } => lint::file(output, &file),
        Verb::Lint { file: None } => lint::run(&service, output).await,
        Verb::Rescan => rescan::run(&service).await,
        Verb::Reload => reload::run(&service, output).await,
        Verb::Doctor => doctor::run(output, &cli.global.bus).await,
        Verb::Config(Config::Check { file }) => config::check(output, &file),
        Verb::Completions { shell } => completions::run(shell),
        Verb::Model(model) => model::run(output, model),
    }
}
