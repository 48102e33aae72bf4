//! Command lines that are understood, and some that are not.

use super::*;
use clap::{CommandFactory, error::ErrorKind};

fn parse(line: &str) -> Result<Cli, ErrorKind> {
    Cli::try_parse_from(line.split_whitespace()).map_err(|e| e.kind())
}

#[test]
fn the_grammar_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn global_options_may_stand_anywhere() {
    for line in [
        "coftctl --json --classifier parts --bus session status",
        "coftctl status --json --classifier parts --bus session",
    ] {
        let cli = parse(line).unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.global.classifier.as_deref(), Some("parts"));
        assert_eq!(cli.global.bus, "session");
    }
}

#[test]
fn verbs_take_what_they_need() {
    let Verb::Classify(classify) = parse("coftctl classify --top-k 3 a.jpg -").unwrap().verb else { panic!() };
    assert_eq!((classify.files, classify.top_k), (vec!["a.jpg".into(), "-".into()], 3));
    let line = "coftctl --json classify -r --threshold 0.5 --embedding photos";
    let Verb::Classify(classify) = parse(line).unwrap().verb else { panic!() };
    assert_eq!((classify.recursive, classify.threshold, classify.embedding), (true, 0.5, true));
    let Verb::Round(Round::Start(start)) = parse("coftctl round start --wait --seed 7").unwrap().verb else { panic!() };
    assert_eq!((start.wait, start.seed), (true, Some(7)));
    let Verb::Round(Round::Job(Job::Wait { job })) = parse("coftctl round wait").unwrap().verb else { panic!() };
    assert_eq!(job, None);
    let Verb::Round(Round::Job(Job::Cancel { job })) = parse("coftctl round cancel 4").unwrap().verb else { panic!() };
    assert_eq!(job, Some(4));
    let Verb::Round(Round::Job(Job::Show { job })) = parse("coftctl round show").unwrap().verb else { panic!() };
    assert_eq!(job, None);
    let activate = |line| match parse(line).unwrap().verb {
        Verb::Generation(Generation::Activate { generation }) => generation,
        other => panic!("{other:?}"),
    };
    assert_eq!(activate("coftctl generation activate"), None);
    assert_eq!(activate("coftctl generation activate 4"), Some(4));
    let check = |line| match parse(line).unwrap().verb {
        Verb::Config(Config::Check { file }) => file,
        other => panic!("{other:?}"),
    };
    assert_eq!(check("coftctl config check"), PathBuf::from("/etc/coft/coft.toml"));
    assert_eq!(check("coftctl config check a.toml"), PathBuf::from("a.toml"));
    let line = "coftctl results --source /srv/a --label nut --doubtful --since 2h --limit 5 --follow";
    let Verb::Results(results) = parse(line).unwrap().verb else { panic!() };
    assert_eq!((results.source.as_deref(), results.label.as_deref()), (Some("/srv/a"), Some("nut")));
    assert_eq!((results.doubtful, results.follow, results.summary, results.limit), (true, true, false, Some(5)));
    assert_eq!(results.since.map(|since| since.fieldwise()), Some(jiff::Span::new().hours(2).fieldwise()));
    let review = |line| match parse(line).unwrap().verb {
        Verb::Review(Review { decide, answer, undo: false }) => (decide, answer),
        other => panic!("{other:?}"),
    };
    assert_eq!(review("coftctl review"), (false, vec![]));
    assert_eq!(review("coftctl review --decide"), (true, vec![]));
    let answers = [("0a", "bolt"), ("0b", ""), ("0c", "a=b")].map(|(image, class)| (image.into(), class.into()));
    assert_eq!(review("coftctl review --answer 0a=bolt 0b= --answer 0c=a=b"), (false, answers.to_vec()));
    assert!(matches!(parse("coftctl review --undo").unwrap().verb, Verb::Review(Review { undo: true, .. })));
}

#[test]
fn nonsense_is_refused() {
    let missing = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    for (line, kind) in [
        ("coftctl", missing),
        ("coftctl round", missing),
        ("coftctl config", missing),
        ("coftctl config check a b", ErrorKind::UnknownArgument),
        ("coftctl classify", ErrorKind::MissingRequiredArgument),
        ("coftctl review --undo --decide", ErrorKind::ArgumentConflict),
        ("coftctl review --undo --answer 0a=bolt", ErrorKind::ArgumentConflict),
        ("coftctl classify --top-k 0 a.jpg", ErrorKind::ValueValidation),
        ("coftctl classify --threshold 2 a.jpg", ErrorKind::ValueValidation),
        ("coftctl classify --threshold=-0.1 a.jpg", ErrorKind::ValueValidation),
        ("coftctl classify --threshold NaN a.jpg", ErrorKind::ValueValidation),
        ("coftctl classify --threshold inf a.jpg", ErrorKind::ValueValidation),
        ("coftctl classify --threshold high a.jpg", ErrorKind::ValueValidation),
        ("coftctl round start --seed=-1", ErrorKind::ValueValidation),
        ("coftctl round show latest", ErrorKind::ValueValidation),
        ("coftctl completions tcsh", ErrorKind::InvalidValue),
        ("coftctl results --since soon", ErrorKind::ValueValidation),
        ("coftctl results --limit 0", ErrorKind::ValueValidation),
        ("coftctl results --summary --follow", ErrorKind::ArgumentConflict),
        ("coftctl results --summary --limit 3", ErrorKind::ArgumentConflict),
        ("coftctl review --answer bolt", ErrorKind::ValueValidation),
        ("coftctl review --answer", ErrorKind::InvalidValue),
        ("coftctl review --decide --answer 0a=bolt", ErrorKind::ArgumentConflict),
    ] {
        assert_eq!(parse(line).unwrap_err(), kind, "{line}");
    }
}
