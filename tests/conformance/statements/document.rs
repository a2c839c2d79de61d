//! `docs/conformance.md`: what this run found, beside what the reference plugins did with the same checks.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use selvedge_tests::skipped;

use crate::statements::subject::Subject;
use crate::statements::{GROUPS, Level, Outcome, Statement, all};

/// The reference that the document speaks of: the version of the package's source.
const PACKAGE: (&str, &str) = ("containernetworking-plugins", "1.1.1+ds1-3");

/// How many checks of the reference run at once.
const WORKERS: usize = 3;

/// Set by `make conformance`.
const WRITE: &str = "SELVEDGE_WRITE";

#[test]
fn the_document_says_what_this_run_found() {
    let Some(outcomes) = outcomes() else { return };
    for (statement, Both { ours, .. }) in all().zip(&outcomes) {
        if let Outcome::Differs(why) = ours {
            panic!("ours is not as {} says: {why}", statement.id);
        }
    }
    let text = page(&outcomes);
    let path = document();
    if env::var_os(WRITE).is_some() {
        fs::write(&path, text).unwrap();
        return;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let difference = first_difference(&written, &text);
    assert!(
        written == text,
        "docs/conformance.md says otherwise: `make conformance` writes it anew\n{difference}"
    );
}

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conformance.md")
}

fn first_difference(written: &str, now: &str) -> String {
    let differs = written.lines().zip(now.lines()).find(|(written, now)| written != now);
    differs.map(|(written, now)| format!("- {written}\n+ {now}")).unwrap_or_default()
}

/// What both did with one statement.
struct Both {
    ours: Outcome,
    theirs: Outcome,
}

/// What both do with each statement, in the statements' order; `None` where it can't be asked, which has been said.
fn outcomes() -> Option<Vec<Both>> {
    drop(Subject::theirs()?);
    if installed().as_deref() != Some(PACKAGE.1) {
        skipped("the reference CNI plugins are not those of Debian bookworm");
        return None;
    }
    let statements: Vec<&Statement> = all().collect();
    let outcomes = Mutex::new(BTreeMap::new());
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(statement) = statements.get(number) else { break };
            let theirs = Subject::theirs().map(|subject| statement.put_to(&subject));
            let both = statement.of_ours().zip(theirs);
            let both = both.map(|(ours, theirs)| Both { ours: ours.clone(), theirs });
            outcomes.lock().unwrap().insert(number, both);
        }
    };
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    outcomes.into_inner().unwrap().into_values().collect()
}

/// The source's version of the installed package: a rebuild (`+b5`) is the same program.
fn installed() -> Option<String> {
    let mut query = Command::new("dpkg-query");
    let output = query.args(["--show", "--showformat", "${Version}", PACKAGE.0]).output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    Some(version.split("+b").next().unwrap_or_default().to_owned())
}

fn page(outcomes: &[Both]) -> String {
    let mut page = head(outcomes);
    let mut outcomes = outcomes.iter();
    for (title, group) in GROUPS {
        write!(page, "\n## {title}\n\n").unwrap();
        page.push_str("| ID | Statement | Asked by | Ours | `bridge` + `host-local` |\n");
        page.push_str("|---|---|---|---|---|\n");
        for (statement, Both { ours, theirs }) in group.iter().zip(outcomes.by_ref()) {
            let Statement { id, level, text, .. } = statement;
            let level = level.word();
            writeln!(page, "| {id} | {} | {level} | {} | {} |", cell(text), said(ours), said(theirs))
                .unwrap();
        }
    }
    page
}

fn head(outcomes: &[Both]) -> String {
    let of = |level: Option<Level>| {
        let chosen =
            all().zip(outcomes).filter(|(statement, _)| level.is_none_or(|level| statement.level == level));
        let all: Vec<&Both> = chosen.map(|(_, both)| both).collect();
        let ours = all.iter().filter(|both| both.ours == Outcome::Holds).count();
        let theirs = all.iter().filter(|both| both.theirs == Outcome::Holds).count();
        format!("{} | {ours} | {theirs}", all.len())
    };
    format!(
        "# Conformance

`make conformance` writes this page from a run, and `make test` fails if a run says otherwise. Each statement is one
check of a built plugin, executed as a runtime executes it, on a node of its own: `tests/conformance/statements`. The
same check is put to `bridge` and `host-local` of Debian's {} {} (bookworm), in the
newest version that they speak, 1.0.0; GC and STATUS are asked of them in 1.1.0 all the same. What `portmap` and
`bandwidth` do is asked of these, behind `bridge`.

| Asked by | statements | ours | `bridge` + `host-local` |
|---|---|---|---|
| the specification: must | {} |
| the specification: should | {} |
| conventions beside it | {} |
| runtimes that are in use, written nowhere | {} |
| all | {} |

A \"no\" says in what way; several are divided by semicolons. \"left\" and \"lost\" name what a call left behind on
the node or took away. `bridge` knows neither GC nor STATUS: code 4, and code 3 where no container is named.
",
        PACKAGE.0,
        PACKAGE.1,
        of(Some(Level::Must)),
        of(Some(Level::Should)),
        of(Some(Level::Convention)),
        of(Some(Level::Runtimes)),
        of(None),
    )
}

fn said(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Holds => "yes".to_owned(),
        Outcome::Differs(why) => format!("no: {}", cell(why)),
        Outcome::NotApplicable(why) => format!("not applicable: {}", cell(why)),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
