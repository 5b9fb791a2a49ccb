//! Replicas that are rolled out, and back.

use crate::scene::Scene;
use crate::until;

pub async fn out_and_back(scene: &mut Scene) {
    let file = scene.stage.variable("SERVICE_ENV").to_owned();
    let off = format!("sed -i 's/ENABLED=true/ENABLED=false/' '{file}' && kill -HUP \"$SERVICE_PID\"");
    scene.shell().run("before it", &off).await;
    until("replicas are off", async || scene.service().nodes().await.len() == 1).await;

    for section in ["Look", "Connect them, and use none", "Compare", "A share of the reads"] {
        scene.run(section).await;
    }
    scene.traffic.goes_on().await;
    scene.run("All reads").await;
    scene.serves_reads("db-2").await;
    scene.serves_reads("db-3").await;
    scene.run("Back").await;
    let reads = async || {
        let nodes = scene.service().nodes().await;
        let reads =
            |name: &str| nodes.iter().find(|node| node["name"] == name).unwrap()["reads"].as_u64().unwrap();
        (reads("db-1"), reads("db-2") + reads("db-3"))
    };
    // One may have been given its connection before, and have been counted after.
    scene.traffic.goes_on().await;
    let before = reads().await;
    scene.traffic.goes_on().await;
    let after = reads().await;
    assert!(after.0 > before.0 && after.1 == before.1, "{before:?}, then {after:?}");
    scene.run("Off").await;
    scene.run("Over when").await;
    assert_eq!(scene.service().nodes().await.len(), 1);
}
