//! The status as a person reads it.

use std::time::Duration;

use selvedge_reconcile::status::{Pass, State, Status, StepOutcome, StepResult, There, Wanted};

/// How many lines a list has before the rest is only counted.
const LINES: usize = 20;

/// Whether the terminal's colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// Text alone.
    Plain,
    /// Red, yellow and green.
    Coloured,
}

/// How many characters of a step are shown; a whole table of rules can be one step.
const WIDTH: usize = 160;

/// How well something is.
#[derive(Debug, Clone, Copy)]
enum Tone {
    Good,
    Doubtful,
    Bad,
}

/// The text as far as it is written.
pub(super) struct Screen {
    text: String,
    /// The time since 1970.
    now: Duration,
    paint: Paint,
}

impl Screen {
    /// The text for a status at a time since 1970.
    pub(super) fn of(status: &Status, now: Duration, paint: Paint) -> String {
        let mut screen = Self { text: String::new(), now, paint };
        screen.state(status);
        screen.wanted(status);
        screen.there(status);
        screen.passes(status);
        screen.repairs(status);
        screen.notes(status);
        screen.problems(status);
        screen.text
    }

    fn state(&mut self, status: &Status) {
        let (tone, word, reasons) = match &status.state {
            State::Ready => (Tone::Good, "ready", &[][..]),
            State::Waiting { reason } => (Tone::Doubtful, "waiting", std::slice::from_ref(reason)),
            State::Degraded { reasons } => (Tone::Doubtful, "degraded", &reasons[..]),
            State::Failed { reasons } => (Tone::Bad, "FAILED", &reasons[..]),
        };
        let word = self.painted(tone, word);
        let (node, version) = (printable(&status.node), printable(&status.version));
        self.line(&format!("{node} is {word} (selvedge-agent {version})"));
        for reason in reasons {
            self.line(&format!("  {}", printable(reason)));
        }
    }

    fn wanted(&mut self, status: &Status) {
        let wanted = &status.wanted;
        self.line("\nwanted");
        if **wanted == Wanted::default() {
            return self.line("  nothing is decided yet");
        }
        self.row("pod CIDRs", &list(&wanted.pod_cidrs));
        self.row("addresses", &list(&wanted.addresses));
        self.row("attach", &printable(&wanted.attach));
        self.row("MTU", &wanted.mtu.to_string());
        self.row("tables", &list(&wanted.tables));
        self.rows("peers", &wanted.peers.iter().map(ToString::to_string).collect::<Vec<_>>());
        self.rows("routes", &wanted.routes);
        self.rows("attachments", &wanted.attachments);
    }

    fn there(&mut self, status: &Status) {
        let there = &status.there;
        self.line("\nthere");
        if **there == There::default() {
            return self.line("  nothing of ours has been seen");
        }
        self.row("conflist", if there.conflist { "in place" } else { "missing" });
        self.row("tables", &list(&there.tables));
        if !there.forward_chains.is_empty() {
            self.row("accepted in", &list(&there.forward_chains));
        }
        self.rows("routes", &there.routes);
        self.rows("links", &there.links);
    }

    fn passes(&mut self, status: &Status) {
        self.line(&format!("\npasses ({} so far)", status.passes));
        match &status.last_pass {
            Some(pass) => self.pass("last", pass),
            None => self.row("last", "none yet"),
        }
        if let Some(change) = &status.last_change
            && status.last_pass.as_ref() != Some(change)
        {
            self.pass("last change", change);
        }
    }

    fn pass(&mut self, label: &str, pass: &Pass) {
        let because = printable(&pass.because.join(", "));
        let age = self.age(pass.at_ms);
        self.row(label, &format!("{age} in {}, because: {because}", took(pass.took_us)));
        if pass.steps.is_empty() {
            self.row("", "no steps");
        }
        // What went wrong first: it must not be among what is only counted.
        let mut steps: Vec<&StepOutcome> = pass.steps.iter().collect();
        steps.sort_by_key(|step| rank(&step.result));
        let lines: Vec<String> = steps.into_iter().map(|step| self.step(step)).collect();
        self.listed(&lines);
        if pass.others > 0 {
            self.row("", &format!("and {} steps more, all done", pass.others));
        }
    }

    fn step(&self, outcome: &StepOutcome) -> String {
        let step = cut(&outcome.step);
        match &outcome.result {
            StepResult::Done => format!("done     {step}"),
            StepResult::Failed(why) => {
                format!("{}   {step}: {}", self.painted(Tone::Bad, "FAILED"), printable(why))
            }
            StepResult::Skipped => format!("{}  {step}", self.painted(Tone::Doubtful, "skipped")),
        }
    }

    fn repairs(&mut self, status: &Status) {
        self.line("\nrepaired");
        let counts: Vec<String> =
            status.repaired.iter().map(|(object, count)| format!("{object} {count}")).collect();
        self.row("changes", &list(&counts));
        let latest: Vec<String> = status
            .repairs
            .iter()
            .rev()
            .map(|repair| format!("{:<12}{}", self.age(repair.at_ms), cut(&repair.step)))
            .collect();
        self.listed(&latest);
        self.row("leases freed", &status.leases_freed.to_string());
    }

    fn notes(&mut self, status: &Status) {
        if status.notes.is_empty() && status.without_pod.is_empty() {
            return;
        }
        self.line("\nto be known");
        for note in &status.notes {
            self.line(&format!("  {}", printable(note)));
        }
        for attachment in status.without_pod.iter().take(LINES) {
            self.line(&format!("  {}: no Pod that the API tells of has its address", printable(attachment)));
        }
    }

    fn problems(&mut self, status: &Status) {
        let problems = status.source_problems.iter().chain(&status.standing_problem);
        if problems.clone().next().is_none() {
            return;
        }
        let heading = self.painted(Tone::Doubtful, "problems with the cluster's source");
        self.line(&format!("\n{heading}"));
        for problem in problems {
            self.line(&format!("  {}", printable(problem)));
        }
    }

    /// A label and what belongs to it, one per line.
    fn rows(&mut self, label: &str, items: &[String]) {
        let items: Vec<String> = items.iter().map(|item| printable(item)).collect();
        match items.split_first() {
            None => self.row(label, "none"),
            Some((first, rest)) => {
                self.row(label, first);
                self.listed(rest);
            }
        }
    }

    /// Lines below a row, as many as a person reads.
    fn listed(&mut self, lines: &[String]) {
        for line in lines.iter().take(LINES) {
            self.row("", line);
        }
        match lines.len().saturating_sub(LINES) {
            0 => {}
            more => self.row("", &format!("and {more} more (--json shows all)")),
        }
    }

    fn row(&mut self, label: &str, text: &str) {
        self.line(&format!("  {label:<14}{text}"));
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    fn painted(&self, tone: Tone, text: &str) -> String {
        let colour = match (self.paint, tone) {
            (Paint::Plain, _) => return text.to_owned(),
            (Paint::Coloured, Tone::Good) => 32,
            (Paint::Coloured, Tone::Doubtful) => 33,
            (Paint::Coloured, Tone::Bad) => 31,
        };
        format!("\x1b[{colour}m{text}\x1b[0m")
    }

    /// How long ago a moment was.
    fn age(&self, at_ms: u64) -> String {
        let seconds = self.now.saturating_sub(Duration::from_millis(at_ms)).as_secs();
        match seconds {
            0 => "just now".to_owned(),
            1..120 => format!("{seconds} s ago"),
            120..7200 => format!("{} min ago", seconds / 60),
            7200..172_800 => format!("{} h ago", seconds / 3600),
            _ => format!("{} d ago", seconds / 86_400),
        }
    }
}

/// A time in the unit that fits.
fn took(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..1_000_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

fn rank(result: &StepResult) -> u8 {
    match result {
        StepResult::Failed(_) => 0,
        StepResult::Skipped => 1,
        StepResult::Done => 2,
    }
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { printable(&items.join(", ")) }
}

/// The text, printable, as far as a person reads.
fn cut(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{} …", printable(&text[..end])),
        None => printable(text),
    }
}

/// The text with nothing in it that a terminal would obey: names in manifests are anybody's.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}
