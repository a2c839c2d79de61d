use super::*;

#[test]
fn a_conflist_of_an_earlier_name_goes_only_once_the_other_is_seen_in_its_place() {
    let desired = Desired {
        network: DesiredNetwork::default(),
        tables: BTreeMap::new(),
        accept: Vec::new(),
        plugin: false,
        conflist: Some("new".to_owned()),
        superseded: ["05-old.conflist".to_owned()].into(),
        prune: Prune::Marked,
    };
    let written = Step::Conflist("new".to_owned());
    for there in [None, Some("other".to_owned())] {
        let observed = Observed { conflist: there, ..Observed::default() };
        assert_eq!(plan(&desired, &observed), std::slice::from_ref(&written));
    }
    let observed = Observed { conflist: Some("new".to_owned()), ..Observed::default() };
    let removed = Step::Superseded("05-old.conflist".to_owned());
    assert_eq!(plan(&desired, &observed), std::slice::from_ref(&removed));
    assert!(removed.tidies_up() && !written.tidies_up());
    // Where pods can't be served nothing is in its place.
    let blocked = Desired { conflist: None, ..desired };
    assert_eq!(plan(&blocked, &observed), []);
    assert_eq!(plan(&blocked, &Observed::default()), []);
}
