//! Comments, which the kernel keeps for whoever lists: type-length-value records of one byte each, as nft writes them.

use selvedge_ruleset::Comment;

/// The type of a comment in the user data of rules and of elements.
const COMMENT: u8 = 0;

/// The user data that hold a comment.
pub(crate) fn write_comment(comment: &Comment) -> Vec<u8> {
    let text = comment.as_str().as_bytes();
    // A comment has at most 128 bytes.
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[COMMENT, length][..], text, &[0]].concat()
}

/// The comment among user data, if there is one.
pub(crate) fn read_comment(mut userdata: &[u8]) -> Option<Comment> {
    while let [kind, length, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*length))?;
        if *kind == COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(Comment::new(&String::from_utf8_lossy(text)));
        }
        userdata = &rest[value.len()..];
    }
    None
}
