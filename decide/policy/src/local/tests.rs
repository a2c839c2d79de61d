use selvedge_model::{Labels, Listing, Pod, PodTag};

use super::*;

fn pod(key: &str, uid: Option<&str>, address: &str) -> Pod {
    Pod {
        key: key.parse().unwrap(),
        uid: uid.map(str::to_owned),
        mirror: None,
        node: Some("node-1".parse().unwrap()),
        labels: Labels::default(),
        addresses: vec![address.parse().unwrap()],
        host_network: false,
        finished: false,
        ports: Vec::new(),
    }
}

fn cluster(pods: impl IntoIterator<Item = Pod>) -> Cluster {
    let mut listing = Listing::default();
    Listing::KINDS.into_iter().for_each(|kind| listing.complete(kind));
    listing.namespace("shop", Labels::default());
    pods.into_iter().for_each(|pod| listing.pod(pod));
    Cluster::new(&listing.finish().unwrap())
}

/// An attachment with that address, and with a tag of that Pod and UID if there is one.
fn owner(tag: Option<(&str, Option<&str>)>, address: &str) -> Owner {
    let owner: Owner = format!("selvedge mynet c-1/eth0 {address}/32").parse().unwrap();
    owner.of_pod(tag.map(|(key, uid)| PodTag::new(&key.parse().unwrap(), uid)))
}

fn local(cluster: &mut Cluster, owner: &Owner) -> LocalPod {
    let own = ("node-1".parse().unwrap(), "mynet".parse().unwrap());
    let host = "slv1".parse().unwrap();
    LocalNode::of(cluster, (&own.0, &own.1), [(&host, owner)], None).pods.remove(0)
}

#[test]
fn an_attachment_is_the_very_pod_that_the_runtime_named_and_no_namesake() {
    let shop = || cluster([pod("shop/web", Some("u-1"), "10.244.1.9")]);
    let whose = |tag, address| local(&mut shop(), &owner(tag, address)).whose;
    let web = || Whose::Pod("shop/web".parse().unwrap());
    assert_eq!(whose(Some(("shop/web", Some("u-1"))), "10.244.1.9"), web());
    assert_eq!(whose(Some(("shop/web", None)), "10.244.1.9"), web());
    // Its successor of the same name, which isn't listed yet; one that is in no namespace that is listed.
    assert_eq!(whose(Some(("shop/web", Some("u-2"))), "10.244.1.9"), Whose::Unseen(Some("shop".to_owned())));
    assert_eq!(whose(Some(("new/web", Some("u-3"))), "10.244.1.9"), Whose::Unseen(None));
    // Without a tag the address tells, and where it doesn't, it is no Pod.
    assert_eq!(whose(None, "10.244.1.9"), web());
    assert_eq!(whose(None, "10.244.1.77"), Whose::Nobody);
}

#[test]
fn a_static_pod_is_told_by_what_its_mirror_says_of_it() {
    let mirror = Pod { mirror: Some("h-1".into()), ..pod("shop/web", Some("u-1"), "10.244.1.2") };
    let mut shop = cluster([mirror]);
    let mut whose = |uid| local(&mut shop, &owner(Some(("shop/web", Some(uid))), "10.244.1.2")).whose;
    assert_eq!(whose("h-1"), Whose::Pod("shop/web".parse().unwrap()));
    assert_eq!(whose("h-2"), Whose::Unseen(Some("shop".to_owned())));
}

#[test]
fn a_pod_without_a_uid_is_told_by_its_name() {
    let mut shop = cluster([pod("shop/web", None, "10.244.1.2")]);
    let attached = local(&mut shop, &owner(Some(("shop/web", Some("u-1"))), "10.244.1.9"));
    assert_eq!(attached.whose, Whose::Pod("shop/web".parse().unwrap()));
    // What the attachment has is what the pod has.
    let holders: Vec<_> = shop.with_address("10.244.1.9".parse().unwrap()).map(|pod| &pod.key).collect();
    assert_eq!(holders, [&"shop/web".parse().unwrap()]);
    assert_eq!(shop.with_address("10.244.1.2".parse().unwrap()).count(), 0);
}

#[test]
fn another_networks_attachments_are_nobodys() {
    let mut shop = cluster([pod("shop/web", Some("u-1"), "10.244.1.2")]);
    let other =
        Owner { network: "other".parse().unwrap(), ..owner(Some(("shop/web", Some("u-1"))), "10.1.0.2") };
    assert_eq!(local(&mut shop, &other).whose, Whose::Nobody);
}

/// Its predecessor at that address, which is still listed, is no peer in its place.
#[test]
fn an_address_that_an_attachment_has_is_nobody_elses() {
    let mut shop = cluster([pod("shop/ghost", Some("u-1"), "10.244.1.9")]);
    let new = local(&mut shop, &owner(Some(("shop/new", Some("u-2"))), "10.244.1.9"));
    assert_eq!(new.whose, Whose::Unseen(Some("shop".to_owned())));
    assert_eq!(shop.with_address("10.244.1.9".parse().unwrap()).count(), 0);
    assert!(shop.pods().values().all(|pod| pod.addresses.is_empty()));
}
