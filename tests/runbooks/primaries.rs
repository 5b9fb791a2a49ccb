//! Primaries that change, die, and are one too many.

use crate::scene::Scene;
use crate::until;

pub async fn switched_over(scene: &mut Scene) {
    scene.writes_wait = true;
    for section in ["Look", "Let the other replicas follow it", "Stop the primary", "Promote"] {
        scene.run(section).await;
    }
    scene.traffic.goes_on().await;
    scene.run("The old primary comes back as a replica").await;
    let refused = scene.traffic.refused();
    scene.run("Tell the service").await;
    scene.run("Over when").await;
    is_settled(scene).await;
    assert_eq!(scene.traffic.refused(), refused, "a write failed after the promotion");
}

pub async fn dead(scene: &mut Scene) {
    scene.writes_wait = true;
    // So that the other one has received at least as much.
    scene.server("OTHER").cut_receiver().await.unwrap();
    scene.traffic.goes_on().await;
    scene.server("PRIMARY").kill().await.unwrap();
    scene.until("db-1", "health", "unreachable").await;
    scene.run("Look").await;
    for section in ["Fence it", "Choose", "Promote"] {
        scene.run(section).await;
    }
    scene.traffic.goes_on().await;
    let refused = scene.traffic.refused();
    for section in ["The old primary comes back as a replica", "Tell the service", "Over when"] {
        scene.run(section).await;
    }
    is_settled(scene).await;
    assert_eq!(scene.traffic.refused(), refused, "a write failed after the promotion");
}

pub async fn split(scene: &mut Scene) {
    // Commits of the service wait for a standby; the others follow the loser.
    scene.writes_wait = true;
    scene.server("REPLICA").sql("ALTER SYSTEM SET synchronous_standby_names = ''").await.unwrap();
    scene.server("REPLICA").sql("SELECT pg_reload_conf()").await.unwrap();
    scene.server("REPLICA").promote().await.unwrap();
    scene.until("db-2", "serves_writes", true).await;
    scene.traffic.goes_on().await;
    let chat = scene.stage.variable("PRIMARY").to_owned();
    let stray = "INSERT INTO messages (room_id, author_id, body) \
                 SELECT room_id, author_id, 'a stray one' FROM messages LIMIT 1";
    for _ in 0..3 {
        scene.shell().ask(&chat, stray).await;
    }
    until("the loser is refused", async || scene.node("db-1").await["health"] == "refused").await;

    scene.run("Look").await;
    scene.run("Fence the loser").await;
    let told = scene.run("What only the loser has").await;
    // The service's writes between the promotion and its next probe are among them.
    let rows = told.matches(r#""body":"#).count();
    assert!(told.contains(&format!("{rows} transactions on the loser alone")), "{told}");
    assert_eq!(told.matches(r#""body":"a stray one""#).count(), 3, "{told}");
    scene.found = told;
    for section in ["Bring the loser back", "Tell the service", "Over when"] {
        scene.run(section).await;
    }
    is_settled(scene).await;
}

/// The promoted node takes the writes, the others serve the reads.
async fn is_settled(scene: &Scene) {
    scene.traffic.goes_on().await;
    for node in scene.service().nodes().await {
        let is_promoted = node["name"] == scene.stage.variable("REPLICA_NODE");
        assert_eq!(node["health"], "healthy", "{node}");
        assert_eq!(
            (&node["serves_writes"], &node["serves_reads"]),
            (&is_promoted.into(), &(!is_promoted).into()),
            "{node}"
        );
        assert_eq!(node["timeline"], 2, "{node}");
    }
    for name in [scene.stage.variable("PRIMARY_NODE"), scene.stage.variable("OTHER_NODE")] {
        scene.serves_reads(name).await;
    }
}
