use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;
use crate::problem::InForce;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("selvedge-keys-{}-{name}", std::process::id())))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn update(keys: &mut Keys, files: &[(&str, &[u8])]) -> Vec<String> {
    let files = files.iter().map(|(name, text)| (Path::new("/keys").join(name), Ok(text.to_vec())));
    keys.update(files.collect());
    keys.problems().map(ToString::to_string).collect()
}

#[test]
fn a_key_is_published_whole_in_a_directory_that_is_made_and_only_the_nodes_own_file_is_touched() {
    let folder = Folder::new("own");
    let (a, b) = (PublicKey([1; 32]), PublicKey([2; 32]));
    assert!(!publish(&folder.0, &name("a"), None).unwrap(), "nothing to withdraw, and no directory for it");
    assert!(!folder.0.exists());
    assert!(publish(&folder.0, &name("a"), Some(a)).unwrap());
    assert!(publish(&folder.0, &name("b"), Some(b)).unwrap());
    assert!(!publish(&folder.0, &name("a"), Some(a)).unwrap(), "it is there");
    let file = folder.0.join("a");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{a}\n"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    assert!(publish(&folder.0, &name("a"), Some(b)).unwrap());
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{b}\n"));
    assert!(publish(&folder.0, &name("a"), None).unwrap());
    assert_eq!(folder.names(), ["b"]);
}

#[test]
fn what_a_killed_agent_left_or_somebody_laid_in_the_way_is_replaced_and_nothing_is_written_through_it() {
    let folder = Folder::new("way");
    fs::create_dir_all(&folder.0).unwrap();
    let elsewhere = folder.0.join("elsewhere");
    fs::write(&elsewhere, "mine").unwrap();
    symlink(&elsewhere, folder.0.join(".a~")).unwrap();
    symlink(&elsewhere, folder.0.join("a")).unwrap();
    let key = PublicKey([1; 32]);
    assert!(publish(&folder.0, &name("a"), Some(key)).unwrap());
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
    assert_eq!(fs::read_to_string(folder.0.join("a")).unwrap(), format!("{key}\n"));
    assert_eq!(folder.names(), ["a", "elsewhere"]);
}

#[test]
fn a_key_that_cannot_be_published_is_an_error_that_names_the_file() {
    let folder = Folder::new("error");
    fs::write(&folder.0, "no directory").unwrap();
    let why = publish(&folder.0, &name("a"), Some(PublicKey([1; 32]))).unwrap_err();
    let expected = format!("the WireGuard key can't be published in {}", folder.0.join("a").display());
    assert_eq!(why.to_string(), expected);
    fs::remove_file(&folder.0).unwrap();
    for strange in [".", "..", ".a"] {
        assert!(publish(&folder.0, &name(strange), Some(PublicKey([1; 32]))).is_err(), "{strange}");
        assert!(publish(&folder.0, &name(strange), None).is_err(), "{strange}");
    }
    let longest = "a".repeat(253);
    assert!(publish(&folder.0, &name(&longest), Some(PublicKey([1; 32]))).unwrap());
}

#[test]
fn our_key_wakes_who_publishes_it_only_when_it_is_another() {
    let own = Announced::default();
    let mut heard = own.hear();
    assert!(!heard.has_changed().unwrap() && heard.borrow().is_none());
    for (key, changed) in [(None, true), (None, false), (Some(1), true), (Some(1), false), (None, true)] {
        own.clone().is(key.map(|byte| PublicKey([byte; 32])));
        assert_eq!(heard.has_changed().unwrap(), changed, "{key:?}");
        assert_eq!(*heard.borrow_and_update(), Some(key.map(|byte| PublicKey([byte; 32]))));
    }
}

#[test]
fn each_node_has_the_key_of_its_file_until_that_is_gone() {
    let mut keys = Keys::default();
    let (a, b) = (PublicKey([1; 32]), PublicKey([2; 32]));
    let line = format!("{a}\n");
    let problems = update(&mut keys, &[("a", line.as_bytes()), ("b.example", b.to_string().as_bytes())]);
    assert_eq!(problems, [""; 0]);
    assert_eq!(["a", "b.example", "c"].map(|node| keys.of(&name(node))), [Some(a), Some(b), None]);
    assert_eq!(update(&mut keys, &[("b.example", b.to_string().as_bytes())]), [""; 0]);
    assert_eq!(["a", "b.example"].map(|node| keys.of(&name(node))), [None, Some(b)]);
}

#[test]
fn a_file_that_holds_no_key_is_told_by_its_name_and_what_it_said_last_stays() {
    let mut keys = Keys::default();
    let key = PublicKey([1; 32]);
    let rule = "must be the base64 of 32 bytes, 44 characters, as `wg pubkey` prints it";
    let problem = format!("/keys/a: Node a: holds no key: it {rule}");
    for nonsense in [&b""[..], b"\xff\xfe", b"nonsense\n", format!("{key} {key}").as_bytes()] {
        assert_eq!(update(&mut keys, &[("a", nonsense)]), [&*problem]);
        assert_eq!(keys.of(&name("a")), None);
        assert_eq!(update(&mut keys, &[("a", key.to_string().as_bytes())]), [""; 0]);
        let stays = format!("{problem} (the last good state stays in force)");
        assert_eq!(update(&mut keys, &[("a", nonsense)]), [stays]);
        assert_eq!(keys.of(&name("a")), Some(key));
        update(&mut keys, &[]);
    }
}

#[test]
fn a_file_named_like_no_node_is_told_and_a_directory_that_cannot_be_listed_changes_nothing() {
    let mut keys = Keys::default();
    let key = PublicKey([1; 32]);
    let text = key.to_string();
    let problems = update(&mut keys, &[("A b", text.as_bytes()), ("a", text.as_bytes())]);
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert!(problem.starts_with("/keys/A b: is named like no node: node name \"A b\": "), "{problem}");
    keys.unlisted(Path::new("/keys"), &ErrorKind::PermissionDenied.into());
    assert_eq!(keys.of(&name("a")), Some(key));
    assert!(keys.problems().any(|problem| problem.to_string().starts_with("/keys: can't be read: ")));
    let denied = || Err(ErrorKind::PermissionDenied.into());
    keys.update(BTreeMap::from([("/keys/a".into(), denied()), ("/keys/b".into(), denied())]));
    assert_eq!(["a", "b"].map(|node| keys.of(&name(node))), [Some(key), None]);
    let in_force: Vec<_> = keys.problems().map(|problem| problem.in_force).collect();
    assert_eq!(in_force, [InForce::LastGood, InForce::Nothing]);
}

proptest! {
    #[test]
    fn whatever_files_there_are_nothing_panics_and_each_is_a_key_or_a_problem(
        files in prop::collection::btree_map("[a-zA-Z.\u{e9}-]{1,8}", prop::collection::vec(any::<u8>(), 0..50), 0..5),
    ) {
        let mut keys = Keys::default();
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
        prop_assert_eq!(update(&mut keys, &files).len(), files.len(), "random bytes are no key");
    }
}
