use selvedge_ruleset::after::after;
use selvedge_ruleset::{Base, Chain, ChainName, Family, Hook, Ownership, priority};

use super::*;

fn nothing() -> Desired {
    Desired {
        forwarding: None,
        encryption: None,
        network: DesiredNetwork::default(),
        tables: BTreeMap::new(),
        accept: Vec::new(),
        plugin: false,
        conflist: None,
        superseded: BTreeSet::new(),
        prune: Prune::Marked,
    }
}

#[test]
fn a_forwarder_is_started_told_told_again_and_ended() {
    let told = |port| Forwarding { port, local: "10.0.0.1".parse().unwrap(), peers: Vec::new() };
    let steps = |wanted: Option<u16>, forwarder, prune| {
        let desired = Desired { forwarding: wanted.map(told), prune, ..nothing() };
        plan(&desired, &Observed { forwarder, ..Observed::default() })
    };
    let start = vec![
        Step::Forwarder(ForwarderStep::Start(Which::Udp)),
        Step::Forwarder(ForwarderStep::Forward(told(8383))),
    ];
    assert_eq!(steps(Some(8383), Forwarder::Missing, Prune::Marked), start);
    assert_eq!(steps(Some(8383), Forwarder::Strange, Prune::Marked), start, "of another version");
    let tell = &start[1..];
    assert_eq!(steps(Some(8383), Forwarder::There(None), Prune::Marked), tell);
    assert_eq!(steps(Some(8383), Forwarder::There(Some(told(1))), Prune::Nothing), tell);
    assert_eq!(steps(Some(8383), Forwarder::There(Some(told(8383))), Prune::Marked), []);
    for there in [Forwarder::There(Some(told(8383))), Forwarder::Strange] {
        assert_eq!(
            steps(None, there.clone(), Prune::Marked),
            [Step::Forwarder(ForwarderStep::End(Which::Udp))]
        );
        assert_eq!(steps(None, there, Prune::Nothing), [], "another listing may want it");
    }
    for idle in [Forwarder::There(None), Forwarder::Missing] {
        assert_eq!(steps(None, idle, Prune::Marked), []);
    }
    let hung = |overdue| Forwarder::Hung { said: "it hangs".to_owned(), overdue };
    assert_eq!(steps(Some(8383), hung(false), Prune::Marked), [], "it may only be slow");
    assert_eq!(steps(Some(8383), hung(true), Prune::Marked), start);
    assert_eq!(steps(None, hung(true), Prune::Marked), [Step::Forwarder(ForwarderStep::End(Which::Udp))]);
}

#[test]
fn a_forwarder_that_hangs_is_named_where_it_is_needed_and_not_replaced() {
    let said = |wanted: bool, overdue| {
        let told = Forwarding { port: 1, local: "10.0.0.1".parse().unwrap(), peers: Vec::new() };
        let desired = Desired { forwarding: wanted.then_some(told), ..nothing() };
        let forwarder = Forwarder::Hung { said: "it hangs".to_owned(), overdue };
        let observed = Observed { forwarder, ..Observed::default() };
        hung(&desired, &observed).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(said(true, false), ["it hangs"]);
    assert_eq!((said(false, false), said(true, true)), (Vec::new(), Vec::new()));
}

#[test]
fn wireguard_gets_a_key_before_a_device_and_is_told_of_peers_as_they_come() {
    let told = |port| Wireguard { key: PublicKey([1; 32]), port, peers: Vec::new() };
    let steps = |encryption, wireguard| {
        let desired = Desired { encryption, ..nothing() };
        plan(&desired, &Observed { wireguard, ..Observed::default() })
    };
    assert_eq!(steps(Some(Encrypting::Key), Forwarder::Missing), [Step::Forwarder(ForwarderStep::Key)]);
    assert_eq!(steps(Some(Encrypting::AsItIs), Forwarder::There(Some(told(51820)))), []);
    let device = |port| Some(Encrypting::Device(told(port)));
    let start = vec![
        Step::Forwarder(ForwarderStep::Start(Which::Wireguard)),
        Step::Forwarder(ForwarderStep::Encrypt(told(1))),
    ];
    assert_eq!(steps(device(1), Forwarder::Missing), start);
    assert_eq!(steps(device(1), Forwarder::There(None)), start[1..]);
    assert_eq!(steps(device(1), Forwarder::There(Some(told(2)))), start[1..]);
    assert_eq!(steps(device(1), Forwarder::There(Some(told(1)))), []);
    assert_eq!(
        steps(None, Forwarder::There(Some(told(1)))),
        [Step::Forwarder(ForwarderStep::End(Which::Wireguard))]
    );
    assert_eq!(steps(None, Forwarder::There(None)), [], "it does nothing");
}

#[test]
fn a_conflist_of_an_earlier_name_goes_only_once_the_other_is_seen_in_its_place() {
    let desired = Desired {
        conflist: Some("new".to_owned()),
        superseded: ["05-old.conflist".to_owned()].into(),
        ..nothing()
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

#[test]
fn a_table_that_nobody_owns_is_claimed_before_it_gets_another_base_chain() {
    const TABLE: TableId = TableId::literal(Family::Inet, "t");
    const KEPT: ChainName = ChainName::literal("kept");
    let base = Base::filter(Hook::Postrouting, priority::FILTER);
    let chain = |base| Chain { base, ..Chain::default() };
    let before = Table::owned().chain(KEPT, chain(Some(base)));
    let steps = |more: Option<Chain>, mut listed: Listed| {
        if let Some(table) = listed.get_mut(&TABLE) {
            table.ownership = Ownership::Orphan;
        }
        let table =
            more.into_iter().fold(before.clone(), |t, more| t.chain(ChainName::literal("more"), more));
        let desired = Desired { tables: BTreeMap::from([(TABLE, table)]), ..nothing() };
        let steps = plan(&desired, &Observed { tables: listed.into(), ..Observed::default() });
        steps.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let made = diff(&BTreeMap::from([(TABLE, before.clone())]), &Listed::new(), Scope::Whole);
    let there = after(&Listed::new(), &made).unwrap();
    let claimed = "nft add table inet t { flags owner,persist; }".to_owned();
    assert_eq!(steps(None, there.clone()), std::slice::from_ref(&claimed));
    let based = steps(Some(chain(Some(base))), there.clone());
    assert_eq!((based.len(), &based[0]), (2, &claimed), "{based:?}");
    assert!(based[1].starts_with("nft add chain inet t more { type filter"), "{based:?}");
    assert_eq!(steps(Some(chain(None)), there).len(), 1, "what no packet passes may come with it");
    assert_eq!(
        steps(Some(chain(Some(base))), Listed::new()).len(),
        1,
        "a table is made with all that is in it"
    );
}
