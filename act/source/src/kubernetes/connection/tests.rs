use std::{env, fs, process};

use serde_json::json;

use super::*;

#[test]
fn changed_credentials_that_cannot_be_used_are_told_once_until_they_change_again() {
    let folder = env::temp_dir().join(format!("selvedge-source-{}-renewed", process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("kubeconfig");
    let good = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "it", "user": {"tokenFile": "token"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    });
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("kubeconfig", "{");
    let (told, mut heard) = unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let nowhere = BoxCloneSyncService::new(tower::service_fn(async |_: Request<Body>| {
            Err::<Answered, _>(BoxError::from("nowhere"))
        }));
        let reach = Reach::Kubeconfig(file.clone());
        let files = credentials::read(&reach).files;
        let now = Arc::new(Mutex::new(Now { files, connection: nowhere, again: None }));
        let renewed = Renewed { reach, now, told };
        let mut next = async || {
            renewed.connection().await;
            match heard.try_recv() {
                Ok(Told::Credentials(told)) => Some(told.unwrap_or_default()),
                Ok(Told::Watched(kind)) => panic!("{kind:?}"),
                Err(_) => None,
            }
        };
        assert_eq!(next().await, None, "nothing has changed");
        write("kubeconfig", "{{");
        let why = next().await.unwrap();
        assert!(why.starts_with(&format!("the kubeconfig {} can't be used: ", file.display())), "{why}");
        assert_eq!(next().await, None, "told already");
        write("kubeconfig", &good.to_string());
        let why = next().await.unwrap();
        assert!(why.contains("/token can't be read"), "{why}");
        // What is new is waited for too, not only what was there.
        write("token", "t0ken");
        assert_eq!(next().await.as_deref(), Some(""));
        assert_eq!(next().await, None);
    });
    fs::remove_dir_all(&folder).unwrap();
}
