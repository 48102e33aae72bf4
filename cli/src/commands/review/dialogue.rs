//! `coftctl review --decide`: a person labels picture after picture. Until the decision, the dialogue does not show
//! which of the two models a label supports.

use crate::commands::wait;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::render;
use crate::service::Service;
use crate::view::{Crop, Review, ReviewItem};
use coft_core::shown::shown;
use coft_core::text::likeness;
use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::{Command, Stdio};

/// Most other classes that are listed without a request. 9 [choice].
const FEW: usize = 9;

pub async fn run(service: &Service, output: Output) -> Result<Exit, CliError> {
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if output.is_json() || !terminal {
        return Err(CliError::Usage(
            "--decide asks a person, and needs a terminal\n  for scripts: coftctl review --json tells what is asked, and \
             coftctl review --answer IMAGE=CLASS answers"
                .into(),
        ));
    }
    let review = service.review().await?;
    let Some(mut review) = review.clone().filter(Review::is_asking) else {
        say(&render::review(review.as_ref()))?;
        return Ok(Exit::Done);
    };
    say(INTRODUCTION)?;
    let classes = service.classes().await?;
    while review.is_asking() {
        let (items, now) = service.review_items(1).await?;
        review = now;
        let Some(item) = items.first().filter(|_| review.is_asking()) else { break };
        let choice = Choice::new(item, &classes);
        say(&choice.question(&review))?;
        loop {
            say("what does it show? ")?;
            let Some(line) = line().await? else { return stop(&review) };
            match choice.said(&line) {
                Said::Class(class) => {
                    let told = match class.as_str() {
                        "" => "not counted, and not asked about again\n".to_owned(),
                        class => format!("it shows {}\n", shown(class.as_bytes())),
                    };
                    let answer = vec![(item.image.clone(), class)];
                    if let Some(now) = taken(service.submit_review(answer).await)? {
                        review = now;
                        say(&told)?;
                        say(&render::progress(&review))?;
                    }
                    break;
                }
                Said::Undo => {
                    if let Some(now) = taken(service.undo_review().await)? {
                        review = now;
                        say("the last answer is taken back\n")?;
                        break;
                    }
                }
                Said::Quit => return stop(&review),
                Said::Open => say(&open(&item.path))?,
                Said::Help => say(&choice.help())?,
                Said::Unclear(why) => say(&format!("{why}\n"))?,
            }
        }
    }
    if review.is_asking() {
        let left = "the files of the pictures that are left are missing; when they are back: coftctl review --decide\n";
        say(left)?;
        return Ok(Exit::Done);
    }
    match review.activation.filter(|_| review.state == "candidate") {
        Some(round) => wait::run(service, output, round).await,
        None => Ok(Exit::Done),
    }
}

const INTRODUCTION: &str = "\
Two models give these pictures different classes. Say what each picture shows; which model said what is not told, so that
it does not sway you. Every answer is kept at once: stop whenever you like, and go on later.
";

/// The state of the review after an answer. If the answer is refused, prints why and returns `None`: another person may
/// have given it.
fn taken(answered: Result<Review, CliError>) -> Result<Option<Review>, CliError> {
    match answered {
        Err(CliError::Refused { name, message, .. }) if name == "InvalidArgs" => {
            say(&format!("{message}\n"))?;
            Ok(None)
        }
        answered => answered.map(Some),
    }
}

/// Prints a text and flushes it, without an end of line.
fn say(text: &str) -> Result<(), CliError> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// The next line of input; `None` at its end.
async fn line() -> Result<Option<String>, CliError> {
    let read = || {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|bytes| (bytes > 0).then_some(line))
    };
    Ok(tokio::task::spawn_blocking(read).await.expect("reading a line neither panics nor is aborted")?)
}

fn stop(review: &Review) -> Result<Exit, CliError> {
    let (given, most) = (review.answered, review.most);
    say(&format!("{given} of at most {most} labels are given and kept; to go on: coftctl review --decide\n"))?;
    Ok(Exit::Done)
}

/// Shows a picture on the desktop, if there is one. Returns a text about the result.
fn open(path: &str) -> String {
    if env::var_os("DISPLAY").or_else(|| env::var_os("WAYLAND_DISPLAY")).is_none() {
        return "there is no display here; copy the file to a machine that has one, and look at it there\n".into();
    }
    let mut opener = Command::new("xdg-open");
    match opener.arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(_) => String::new(),
        Err(error) => format!("xdg-open cannot be run: {error}\n"),
    }
}

/// The possible answers for a picture.
struct Choice<'c> {
    path: &'c str,
    crop: Option<Crop>,
    /// The answers of the two models, in an order that does not show which model gave which.
    two: [&'c str; 2],
    /// The other classes, numbered from 3.
    others: Vec<&'c str>,
    /// Whether a number selects a class: not where a class has a number as its name.
    numbered: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// The name of the class, empty where the user cannot tell.
    Class(String),
    Undo,
    Quit,
    Open,
    Help,
    /// Why the input is not a possible answer.
    Unclear(String),
}

impl<'c> Choice<'c> {
    fn new(item: &'c ReviewItem, classes: &'c [String]) -> Self {
        let mut two = [item.present.as_str(), item.candidate.as_str()];
        // The id is a digest, so its last bit is as random as a coin.
        if item.image.bytes().last().is_some_and(|digit| digit & 1 == 1) {
            two.swap(0, 1);
        }
        let others = classes.iter().map(String::as_str).filter(|class| !two.contains(class)).collect();
        let numbered = !classes.iter().any(|class| class.trim().parse::<usize>().is_ok());
        Self { path: &item.path, crop: item.crop, two, others, numbered }
    }

    fn question(&self, review: &Review) -> String {
        let number = review.answered + 1;
        let (most, path, part, two) = (review.most, self.path, self.part(), self.listed(&self.two, 1));
        let mut text = format!("\n{number} of at most {most}: {path}\n{part}{two}");
        if self.others.len() <= FEW {
            text += &self.list();
        }
        let more = if self.others.len() > FEW { "name another class  " } else { "" };
        text + &format!("  {more}n none of them, or cannot tell  u undo  o open it  q stop  ? help\n")
    }

    /// Which part of the picture is asked about; empty where it is the whole picture.
    fn part(&self) -> String {
        let Some(Crop { x, y, width, height }) = self.crop else { return String::new() };
        let range = |begin: f64, length: f64| format!("{:.0} to {:.0} %", 100.0 * begin, 100.0 * (begin + length));
        format!(
            "  only this part of it: {} of the width, from the left, and {} of the height, from the top\n",
            range(x, width),
            range(y, height)
        )
    }

    fn list(&self) -> String {
        self.listed(&self.others, 3)
    }

    /// A line for each class, with its number from `first` on.
    fn listed(&self, classes: &[&str], first: usize) -> String {
        let line = |(at, class): (usize, &&str)| match self.numbered {
            true => format!("  {}  {}\n", first + at, shown(class.as_bytes())),
            false => format!("  {}\n", shown(class.as_bytes())),
        };
        classes.iter().enumerate().map(line).collect()
    }

    fn help(&self) -> String {
        let number = if self.numbered {
            "number of the class that the picture shows, or the beginning of its name"
        } else {
            "name of the class that the picture shows, or its beginning"
        };
        format!(
            "{}{}{}\
             type the {number}; or\n\
             \x20 n  it is none of the classes, or cannot be told: it is not asked about again, and counts for nothing\n\
             \x20 u  take the last answer back\n\
             \x20 o  open the picture, where there is a display\n\
             \x20 q  stop; what was answered is kept\n",
            self.part(),
            self.listed(&self.two, 1),
            self.list()
        )
    }

    fn said(&self, line: &str) -> Said {
        let word = line.trim();
        match word.to_ascii_lowercase().as_str() {
            "n" => return Said::Class(String::new()),
            "u" => return Said::Undo,
            "q" => return Said::Quit,
            "o" => return Said::Open,
            "" | "?" => return Said::Help,
            _ => {}
        }
        let all: Vec<&str> = self.two.iter().chain(&self.others).copied().collect();
        if let Some(number) = word.parse::<usize>().ok().filter(|_| self.numbered) {
            let class = number.checked_sub(1).and_then(|at| all.get(at));
            return class.map_or_else(
                || Said::Unclear(format!("there is no class {number}; ? lists them")),
                |class| Said::Class((*class).to_owned()),
            );
        }
        let typed = likeness(word);
        let found: Vec<&str> = match all.iter().find(|class| likeness(class) == typed) {
            Some(class) => vec![class],
            None => all.into_iter().filter(|class| likeness(class).starts_with(&typed)).collect(),
        };
        match found[..] {
            [class] => Said::Class(class.to_owned()),
            [] => Said::Unclear(format!("no class begins with {:?}; ? lists them", shown(word.as_bytes()))),
            _ => {
                let names: Vec<_> = found.iter().map(|class| shown(class.as_bytes())).collect();
                Said::Unclear(format!("which one: {}?", names.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(image: &str) -> ReviewItem {
        let (present, candidate) = ("hex nut".into(), "hex bolt".into());
        ReviewItem { image: image.into(), path: "/srv/in/a.jpg".into(), crop: None, present, candidate }
    }

    fn classes() -> Vec<String> {
        ["hex bolt", "hex nut", "washer", "wing nut", "n"].map(str::to_owned).to_vec()
    }

    #[test]
    fn what_is_typed_is_an_answer_a_key_or_unclear() {
        let (item, classes) = (item("0a"), classes());
        let choice = Choice::new(&item, &classes);
        let class = |name: &str| Said::Class(name.to_owned());
        for (line, said) in [
            ("1\n", class("hex bolt")),
            (" 2 ", class("hex nut")),
            ("3", class("washer")),
            ("5", class("n")),
            ("wing nut", class("wing nut")),
            ("Wing  NUT", class("wing nut")),
            ("wi", class("wing nut")),
            ("hex bolt", class("hex bolt")),
            ("n", class("")),
            ("U", Said::Undo),
            ("q", Said::Quit),
            ("o", Said::Open),
            ("", Said::Help),
            ("?", Said::Help),
            ("0", Said::Unclear("there is no class 0; ? lists them".into())),
            ("6", Said::Unclear("there is no class 6; ? lists them".into())),
            ("w", Said::Unclear("which one: washer, wing nut?".into())),
            ("gear", Said::Unclear("no class begins with \"gear\"; ? lists them".into())),
        ] {
            assert_eq!(choice.said(line), said, "{line:?}");
        }
    }

    /// With the classes 7 and 3 in this order, 1 was taken as 7, and 3 as the third class of the list.
    #[test]
    fn where_classes_are_numbers_a_number_is_a_name() {
        let item = ReviewItem { present: "7".into(), candidate: "3".into(), ..item("0a") };
        let classes = ["1", "3", "7", "12"].map(str::to_owned).to_vec();
        let choice = Choice::new(&item, &classes);
        for name in ["1", "3", "7", "12"] {
            assert_eq!(choice.said(name), Said::Class(name.into()));
        }
        assert_eq!(choice.said("2"), Said::Unclear("no class begins with \"2\"; ? lists them".into()));
        assert_eq!(choice.listed(&choice.two, 1), "  3\n  7\n");
    }

    #[test]
    fn the_order_of_the_two_depends_on_the_picture_alone() {
        let classes = classes();
        let two = |image: &str| Choice::new(&item(image), &classes).two.map(str::to_owned);
        let [first, second] = ["0a", "0b"].map(two);
        assert_eq!((first[0].as_str(), first[1].as_str()), ("hex bolt", "hex nut"));
        assert_eq!(second, ["hex nut", "hex bolt"]);
    }

    #[test]
    fn what_was_typed_cannot_order_a_terminal() {
        let (item, classes) = (item("0a"), classes());
        let Said::Unclear(why) = Choice::new(&item, &classes).said("\x1b[2J") else { panic!("it is unclear") };
        assert!(!why.contains('\x1b'), "{why:?}");
    }
}
