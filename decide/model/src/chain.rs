//! An error with its causes, as people read it.

use std::error::Error;

/// The error's text and those of its causes, each once, joined by `: `.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some say what their cause says.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("attach the pod")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("the pool is full")]
    struct Inner;

    #[derive(Debug, thiserror::Error)]
    #[error("attach the pod: {0}")]
    struct Telling(#[source] Inner);

    #[test]
    fn each_cause_is_told_once() {
        assert_eq!(chain(&Outer(Inner)), "attach the pod: the pool is full");
        assert_eq!(chain(&Telling(Inner)), "attach the pod: the pool is full");
    }
}
