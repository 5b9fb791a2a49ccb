//! Another major version.

use crate::scene::Scene;
use crate::stage::left_out;
use pg_cluster::{Backend, Cluster};
use std::path::Path;

/// The version to move to, from whatever is installed.
const MAJOR: u32 = 18;

pub async fn upgraded(scene: &mut Scene) {
    scene.writes_wait = true;
    let newer = Cluster::builder().backend(Backend::Wheel).version(MAJOR).start().await;
    let programs = match newer {
        Ok(newer) => {
            let bin =
                newer.primary().sql("SELECT setting FROM pg_config WHERE name = 'BINDIR'").await.unwrap();
            newer.shutdown().await;
            bin.unwrap()
        }
        Err(error @ pg_cluster::Error::Unavailable { .. }) => {
            left_out(&error.to_string());
            return scene.give_up();
        }
        Err(error) => panic!("{error}"),
    };
    scene.stage.shell.use_libraries_of(Path::new(&programs));
    scene.stage.shell.variables.insert("NEW_BIN".into(), programs);

    for section in ["Look", "Make the new cluster", "Copy the data", "Make its replica"] {
        scene.run(section).await;
    }
    scene.traffic.goes_on().await;
    assert_eq!(scene.traffic.refused(), 0, "nothing has moved yet");
    scene.run("Move the writes").await;
    scene.run("Move the service").await;
    scene.traffic.goes_on().await;
    scene.run("Over when").await;
    scene.serves_reads("db-5").await;
    for node in scene.service().nodes().await {
        assert!(node["version"].as_str().unwrap().starts_with(&format!("{MAJOR}.")), "{node}");
    }
}
