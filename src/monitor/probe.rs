//! Asks a node how it is: on a connection kept from probe to probe, and when that stays silent on another one as well.
//!
//! An address may lead to several servers, or to another one than before: a proxy's, a virtual one that has moved while connections
//! live on. So the connection is replaced now and then, by one that has been seen to work, and the two are compared.

mod session;

use crate::endpoint::Endpoint;
use crate::limitation::Limitation;
use crate::observation::{Observation, ProbeFailure};
use crate::pool::Access;
use futures_util::future::select;
pub(crate) use session::Session;
use std::pin::pin;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The monitor's own way to one node: a session that is opened when it is needed and given up after a failure.
#[derive(Debug)]
pub(super) struct Prober {
    endpoint: Endpoint,
    session: Option<Session>,
    /// The session that is to replace it, with its first answer, in the making.
    next: JoinSet<Result<(Observation, Session), ProbeFailure>>,
    /// How many sessions in a row have led to the same server as the one before, since one has not.
    alike: Option<u32>,
}

/// So many probes are made on one session.
const RENEWAL: u32 = 60;

/// After so many sessions to the same server there are not several any more.
const ALIKE: u32 = 10;

impl Prober {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, session: None, next: JoinSet::new(), alike: None }
    }

    /// Asks the node, connecting first if need be.
    ///
    /// # Cancel safety
    ///
    /// A dropped call closes its connections; the next one opens another.
    pub(super) async fn probe(
        &mut self,
        access: Access,
        limit: Duration,
    ) -> Result<Observation, ProbeFailure> {
        let (mut observation, session) = self.ask(access, limit).await?;
        self.session = Some(self.renewed(session, &observation, limit));
        if self.alike.is_some() {
            observation.limitations.push(Limitation::SeveralServers);
        }
        Ok(observation)
    }

    /// An attempt without an answer after two fifths of its limit is joined by a second one on a connection of its own, under a
    /// limit as long: a single connection gone silent does not make a living node unreachable, and a silent node is told after
    /// seven fifths of the limit. The first answer counts; of two failures, what the node has said.
    async fn ask(&mut self, access: Access, limit: Duration) -> Result<(Observation, Session), ProbeFailure> {
        let kept = self.session.take().filter(|session| session.access() == access);
        let mut first = pin!(attempt(&self.endpoint, access, kept, limit));
        match timeout(limit * 2 / 5, &mut first).await {
            Ok(answer) => answer,
            Err(_) => {
                let second = pin!(attempt(&self.endpoint, access, None, limit));
                let (answer, other) = select(first, second).await.into_inner();
                match answer {
                    Ok(answer) => Ok(answer),
                    Err(failure) => other.await.map_err(|later| tell(failure, later)),
                }
            }
        }
    }

    /// The session to ask next, after this answer on the one that there is.
    fn renewed(&mut self, session: Session, observation: &Observation, limit: Duration) -> Session {
        if session.answers() <= 1 {
            // What has begun before it says nothing of where it leads.
            self.next = JoinSet::new();
        }
        if session.answers().is_multiple_of(RENEWAL) && self.next.is_empty() {
            let (endpoint, access, learned) =
                (self.endpoint.clone(), session.access(), session.learned().clone());
            self.next.spawn(async move {
                let asking = async {
                    let mut session = Session::knowing(&endpoint, access, learned).await?;
                    Ok((session.ask().await?, session))
                };
                timeout(limit, asking)
                    .await
                    .unwrap_or(Err(ProbeFailure::TimedOut { probes: 1, after: limit }))
            });
        }
        // The session answers still, and has begun before the next one: if that leads elsewhere, there are two servers.
        match self.next.try_join_next() {
            Some(Ok(Ok((other, next)))) => {
                let same = other.identity.started == observation.identity.started;
                self.alike = if same {
                    self.alike.map(|alike| alike + 1).filter(|alike| *alike < ALIKE)
                } else {
                    Some(0)
                };
                next
            }
            // A node that takes no new connections is still as healthy as it says on this one.
            _ => session,
        }
    }
}

/// Asks once. A session of an earlier probe may have been closed since, by a restart of the server: a new one is opened then,
/// within the same limit.
async fn attempt(
    endpoint: &Endpoint,
    access: Access,
    kept: Option<Session>,
    limit: Duration,
) -> Result<(Observation, Session), ProbeFailure> {
    let asking = async {
        if let Some(mut session) = kept
            && let Ok(observation) = session.ask().await
        {
            return Ok((observation, session));
        }
        let mut session = Session::open(endpoint, access).await?;
        let observation = session.ask().await?;
        Ok((observation, session))
    };
    timeout(limit, asking).await.unwrap_or(Err(ProbeFailure::TimedOut { probes: 1, after: limit }))
}

/// What to tell of two failures.
fn tell(one: ProbeFailure, other: ProbeFailure) -> ProbeFailure {
    use ProbeFailure::TimedOut;
    match (one, other) {
        (TimedOut { probes, after }, TimedOut { probes: more, .. }) => {
            TimedOut { probes: probes + more, after }
        }
        (TimedOut { .. }, said) | (said, _) => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;
    use tokio::task::JoinSet;
    use tokio::time::{Instant, pause};

    /// Long enough for a busy machine to answer in.
    const LIMIT: Duration = Duration::from_secs(1);

    /// What a server does when a connection starts, and at each question on it.
    #[derive(Debug, Clone, Copy)]
    enum Act {
        Answer,
        /// With an error of this code.
        Refuse(&'static str),
        Silence,
        Close,
        /// The same when a second connection has been made.
        AnswerLate,
        CloseLate,
    }
    use Act::{Answer, AnswerLate, Close, CloseLate, Refuse, Silence};

    /// A server that plays a script on each connection, and refuses more connections than it has scripts.
    struct Stage {
        endpoint: Endpoint,
        connections: watch::Receiver<usize>,
        _playing: JoinSet<()>,
    }

    impl Stage {
        async fn set<const N: usize>(scripts: [Vec<Act>; N]) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let port = listener.local_addr().expect("bound").port();
            let (count, connections) = watch::channel(0);
            let counted = connections.clone();
            let mut playing = JoinSet::new();
            playing.spawn(async move {
                let mut connected = JoinSet::new();
                for script in scripts {
                    let (client, _) = listener.accept().await.expect("a client");
                    count.send_modify(|connections| *connections += 1);
                    connected.spawn(play(client, script, counted.clone()));
                }
                drop(listener);
                connected.join_all().await;
            });
            let url = format!("postgres://app@127.0.0.1:{port}/chat?sslmode=disable");
            let endpoint = Endpoint::parse(&url).expect("valid");
            Self { endpoint, connections, _playing: playing }
        }

        fn connections(&self) -> usize {
            *self.connections.borrow()
        }
    }

    /// Ends with the script, or when the client has gone.
    async fn play(mut client: TcpStream, script: Vec<Act>, mut connections: watch::Receiver<usize>) {
        for (turn, act) in script.into_iter().enumerate() {
            let starts = turn == 0;
            let Ok(()) = listen(&mut client, starts).await else { return };
            if let AnswerLate | CloseLate = act {
                connections.wait_for(|connections| *connections > 1).await.expect("the stage counts them");
            }
            let said = match act {
                Answer | AnswerLate if starts => [message(b'R', &[0; 4]), ready()].concat(),
                Answer | AnswerLate => row(),
                Refuse(code) => refusal(starts, code),
                Silence => std::future::pending().await,
                Close | CloseLate => return,
            };
            let Ok(()) = client.write_all(&said).await else { return };
        }
    }

    /// Takes in one message. The first on a connection has no tag before its length.
    async fn listen(client: &mut TcpStream, starts: bool) -> io::Result<()> {
        if !starts {
            client.read_u8().await?;
        }
        let body = client.read_u32().await? - 4;
        client.read_exact(&mut vec![0; body as usize]).await.map(drop)
    }

    fn row() -> Vec<u8> {
        let (mut names, mut values) = (vec![0, 3], vec![0, 3]);
        for (name, value) in [("in_recovery", "false"), ("started", "1"), ("version", "150018")] {
            names.extend([name.as_bytes(), &[0; 19]].concat());
            values.extend([&[0, 0, 0, value.len() as u8], value.as_bytes()].concat());
        }
        [message(b'T', &names), message(b'D', &values), message(b'C', b"SELECT 1\0"), ready()].concat()
    }

    fn refusal(starts: bool, code: &str) -> Vec<u8> {
        let severity = if starts { "FATAL" } else { "ERROR" };
        let error = message(b'E', format!("S{severity}\0C{code}\0Mnot now\0\0").as_bytes());
        if starts { error } else { [error, ready()].concat() }
    }

    fn ready() -> Vec<u8> {
        message(b'Z', b"I")
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
    }

    async fn good(prober: &mut Prober) {
        let answer = prober.probe(Access::ReadOnly, LIMIT).await;
        assert!(answer.is_ok(), "{answer:?}");
    }

    #[tokio::test]
    async fn a_session_is_kept_until_it_fails_and_then_replaced_within_the_same_probe() {
        for broken in [Close, Refuse("XX000")] {
            let first = vec![Answer, Answer, Answer, broken];
            let stage = Stage::set([first, vec![Answer, Answer]]).await;
            let mut prober = Prober::new(stage.endpoint.clone());
            good(&mut prober).await;
            good(&mut prober).await;
            assert_eq!(stage.connections(), 1);
            good(&mut prober).await;
            assert_eq!(stage.connections(), 2, "{broken:?}");
        }
    }

    #[tokio::test]
    async fn a_refusal_is_told_at_once() {
        let started = Instant::now();
        let stage = Stage::set([vec![Answer, Answer, Close]]).await;
        let mut prober = Prober::new(stage.endpoint.clone());
        good(&mut prober).await;
        for when in ["the session closed, and no other to be had", "again"] {
            let answer = prober.probe(Access::ReadOnly, LIMIT).await;
            assert!(
                matches!(&answer, Err(ProbeFailure::Failed(how)) if how.contains("refused")),
                "{when}: {answer:?}"
            );
        }
        assert!(started.elapsed() < LIMIT * 2 / 5);
    }

    #[tokio::test]
    async fn too_many_clients_are_told_from_other_refusals() {
        for (code, full) in [("53300", true), ("57P03", false), ("28P01", false), ("3D000", false)] {
            let stage = Stage::set([vec![Refuse(code)]]).await;
            let answer = Prober::new(stage.endpoint.clone()).probe(Access::ReadOnly, LIMIT).await;
            let how = match &answer {
                Err(ProbeFailure::Full(how)) if full => how,
                Err(ProbeFailure::Failed(how)) if !full => how,
                _ => panic!("{code}: {answer:?}"),
            };
            assert!(how.contains("not now"), "{how}");
        }
    }

    #[tokio::test]
    async fn an_error_that_passes_fails_no_probe_and_one_that_stays_does() {
        let aside = vec![Answer; session::COLUMNS];
        let asked = [vec![Answer, Refuse("55000")], aside.clone(), vec![Answer]].concat();
        let stage = Stage::set([asked]).await;
        good(&mut Prober::new(stage.endpoint.clone())).await;

        let asked = [vec![Answer, Refuse("XX000")], aside, vec![Refuse("XX000")]].concat();
        let stage = Stage::set([asked]).await;
        let answer = Prober::new(stage.endpoint.clone()).probe(Access::ReadOnly, LIMIT).await;
        assert!(matches!(&answer, Err(ProbeFailure::Failed(how)) if how.contains("not now")), "{answer:?}");
    }

    #[tokio::test]
    async fn one_silent_connection_leaves_a_node_reachable() {
        let silent = vec![Answer, Answer, Silence];
        let stage = Stage::set([silent, vec![Answer; 3]]).await;
        let mut prober = Prober::new(stage.endpoint.clone());
        good(&mut prober).await;
        let started = Instant::now();
        good(&mut prober).await;
        assert!(started.elapsed() >= LIMIT * 2 / 5, "not sooner than it has to be");
        good(&mut prober).await;
        assert_eq!(stage.connections(), 2, "the one that answered is kept");
    }

    #[tokio::test]
    async fn whichever_answers_first_is_kept() {
        let slow = vec![Answer, AnswerLate, Answer];
        let stage = Stage::set([slow, vec![Silence]]).await;
        let mut prober = Prober::new(stage.endpoint.clone());
        good(&mut prober).await;
        good(&mut prober).await;
        assert_eq!(stage.connections(), 2);
    }

    #[tokio::test]
    async fn a_failure_of_one_attempt_waits_for_the_other() {
        let failing = vec![Answer, CloseLate];
        let stage = Stage::set([failing, vec![Answer, Answer]]).await;
        good(&mut Prober::new(stage.endpoint.clone())).await;
    }

    #[tokio::test]
    async fn a_silent_node_is_told_after_seven_fifths_of_the_limit() {
        for script in [vec![Silence], vec![Answer, Silence], vec![Answer, Answer, Silence]] {
            let known = script.len() > 2;
            let stage = Stage::set([script, vec![Silence]]).await;
            let mut prober = Prober::new(stage.endpoint.clone());
            if known {
                good(&mut prober).await;
            }
            // Nothing is to come that a jump of the clock could overtake.
            pause();
            let started = Instant::now();
            let answer = prober.probe(Access::ReadOnly, LIMIT).await;
            assert_eq!(answer, Err(ProbeFailure::TimedOut { probes: 2, after: LIMIT }));
            let over = started.elapsed().saturating_sub(LIMIT * 7 / 5);
            assert!(started.elapsed() >= LIMIT * 7 / 5 && over <= Duration::from_millis(2), "{over:?} over");
            tokio::time::resume();
        }
    }

    #[test]
    fn what_a_node_has_said_tells_more_than_its_silence() {
        let silent = |probes| ProbeFailure::TimedOut { probes, after: LIMIT };
        let (closed, full) = (ProbeFailure::Failed("closed".into()), ProbeFailure::Full("full".into()));
        for (one, other, told) in [
            (silent(1), silent(1), silent(2)),
            (silent(1), closed.clone(), closed.clone()),
            (closed.clone(), silent(1), closed.clone()),
            (silent(1), full.clone(), full.clone()),
            (closed.clone(), full, closed),
        ] {
            assert_eq!(tell(one, other), told);
        }
    }
}
