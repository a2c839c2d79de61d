//! The page that the parts of the benchmark share: what is measured replaces its part, the others stay.

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// The plugin's calls, beside the reference.
    Attach,
    /// The agent in large clusters, with their policies.
    Control,
    /// The packets of two pods, with policies and without.
    Packets,
    /// The packets of two pods on different nodes.
    Transports,
    /// An agent with many other nodes.
    Peers,
}

impl Part {
    /// In the order of the page.
    const ALL: [Self; 5] = [Self::Attach, Self::Control, Self::Packets, Self::Transports, Self::Peers];

    /// What its section of the page is called.
    fn title(self) -> &'static str {
        match self {
            Self::Attach => "Attaching and detaching",
            Self::Control => "NetworkPolicy: the agent in large clusters",
            Self::Packets => "NetworkPolicy: packets",
            Self::Transports => "Transports: packets between nodes",
            Self::Peers => "Transports: an agent with many peers",
        }
    }

    /// How to have this part measured alone.
    fn name(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Control => "control",
            Self::Packets => "packets",
            Self::Transports => "transports",
            Self::Peers => "peers",
        }
    }
}

const HEAD: &str = "# Benchmarks\n\n`make bench` writes this page.\n";

/// The page with these parts as they were measured now, on this machine.
pub(crate) fn page(old: &str, machine: &str, measured: &[(Part, String)]) -> String {
    let sections = Part::ALL.into_iter().filter_map(|part| {
        let now = measured.iter().find(|(of, _)| *of == part).map(|(_, text)| {
            let alone = format!("`make bench ARGS=\"--parts {}\"` measures this alone.", part.name());
            format!("{machine} {alone}\n\n{}\n", text.trim_end())
        });
        let text = now.or_else(|| section(old, part.title()))?;
        Some(format!("\n## {}\n\n{}\n", part.title(), text.trim()))
    });
    [HEAD.to_owned()].into_iter().chain(sections).collect()
}

/// What is below a heading.
fn section(page: &str, title: &str) -> Option<String> {
    let sections = format!("\n{page}");
    let found = sections.split("\n## ").skip(1).find(|section| section.lines().next() == Some(title));
    Some(found?.split_once('\n')?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_replaces_itself_and_the_others_stay() {
        let both = [(Part::Attach, "15 ms".to_owned()), (Part::Control, "two\n\n### of it\n".to_owned())];
        let before = page("# Benchmarks\n\nof old\n", "A machine.", &both);
        let after = page(&before, "Another.", &[(Part::Attach, "14 ms".to_owned())]);
        assert!(
            before.contains("15 ms") && before.contains("### of it") && !before.contains("of old"),
            "{before}"
        );
        assert_eq!(after, before.replace("15 ms", "14 ms").replacen("A machine.", "Another.", 1));
    }

    #[test]
    fn a_page_of_nothing_has_what_was_measured() {
        let page = page("", "A machine.", &[(Part::Control, "two".to_owned())]);
        assert!(page.starts_with(HEAD) && page.ends_with("alone.\n\ntwo\n"), "{page}");
    }
}
