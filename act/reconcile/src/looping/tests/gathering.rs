//! What triggers come to.

use super::*;

#[test]
fn a_cluster_that_never_rests_is_gathered_until_something_else_happens() {
    let (sender, triggers) = channel();
    let much_later = Instant::now() + Duration::from_secs(3600);
    let changes = std::thread::spawn(move || {
        std::thread::sleep(GATHER * 10);
        sender.send(cluster(&[1, 3], Prune::Marked)).unwrap();
        sender.send(kernel("link eth0 changed")).unwrap();
        sender
    });
    let reconciler = reconciler(Fake::new());
    let gathered = reconciler.gather(cluster(&[1, 2], Prune::Marked), &triggers, much_later);
    assert_eq!(gathered, [cluster(&[1, 3], Prune::Marked), kernel("link eth0 changed")]);
    drop(changes.join().unwrap());
}

#[test]
fn a_cluster_that_never_rests_keeps_nothing_from_being_looked_at() {
    let mut reconciler = settled();
    reconciler.kernel.observed.conflist = None;
    reconciler.kernel.found = Some("the conflist is gone".to_owned());
    let (sender, triggers) = channel();
    let status = Arc::clone(&reconciler.status);
    let changes = std::thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(30);
        while status.lock().unwrap().repairs.is_empty() && Instant::now() < until {
            sender.send(cluster(&[1, 2], Prune::Marked)).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    reconciler.run(&triggers);
    changes.join().unwrap();
    assert!(reconciler.kernel.observed.conflist.is_some(), "{:?}", reconciler.kernel.tried);
}

#[test]
fn a_flood_of_notifications_makes_one_pass_that_tells_some_of_them_and_misses_no_cluster() {
    let (sender, triggers) = channel();
    (0..100_000).for_each(|i| sender.send(kernel(&format!("route {i}"))).unwrap());
    sender.send(cluster(&[1], Prune::Marked)).unwrap();
    drop(sender);
    let mut reconciler = reconciler(Fake::new());
    reconciler.run(&triggers);
    let status = reconciler.status().clone();
    assert_eq!((status.passes, status.state), (1, State::Ready));
    assert_eq!(status.last_pass.unwrap().because.len(), REASONS + 1);
}
