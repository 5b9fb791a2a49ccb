//! One window of a user: it does one thing after the other, as fast as the service answers.

use crate::connection::{Connection, Failure};
use crate::evidence;
use crate::history::{Fact, History};
use crate::http::Answer;
use crate::operation::{Operation, Outcome};
use crate::report::{Report, Served};
use crate::schedule::stream;
use crate::token::{Carrier, Memory};
use crate::user::{Begun, Exchange, User};
use crate::world::{Era, World};
use hyper::header::SET_COOKIE;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

const HEADER: &str = "x-causal-token";
const COOKIE: &str = "causal_token";

/// How often a window is reloaded: before so many of its requests.
const RELOADS: f64 = 0.01;

pub struct Window {
    name: String,
    world: Arc<World>,
    user: Arc<User>,
    rng: StdRng,
    memory: Memory,
    /// One to each service.
    connections: Vec<Connection>,
    turn: usize,
    keys: u64,
    /// Sent, and nobody knows what became of it.
    unanswered: Option<(Arc<Era>, Operation)>,
    report: Report,
}

impl Window {
    pub fn new(world: &Arc<World>, user: &Arc<User>, number: usize, seed: u64) -> Self {
        Self {
            name: format!("{} in window {number}", user.asker.word),
            world: Arc::clone(world),
            user: Arc::clone(user),
            rng: stream(seed, 1000 + number as u64),
            memory: Memory::default(),
            connections: Vec::new(),
            turn: number,
            keys: 0,
            unanswered: None,
            report: Report::default(),
        }
    }

    /// Until it is told to stop.
    pub async fn run(mut self, stopped: impl Fn() -> bool) -> Report {
        while !stopped() {
            self.step().await;
        }
        self.report
    }

    async fn step(&mut self) {
        if self.rng.random_bool(RELOADS) {
            self.memory = Memory::default();
            self.connections.clear();
        }
        let user = Arc::clone(&self.user);
        let (era, mut memory) = (self.world.era(), std::mem::take(&mut self.memory));
        let choose = |era: &_, history: &_| self.choose(era, history);
        let (begun, operation) = user.begin(&mut memory, era, choose);
        self.memory = memory;
        self.turn += 1;
        let service = self.world.service_of(self.turn);
        let (at, started) = (self.world.now(), Instant::now());
        match self.ask(service, &operation, &begun.token).await {
            Ok(answer) => {
                let exchange = Arc::new(Exchange {
                    at,
                    took: started.elapsed(),
                    window: self.name.clone(),
                    operation: format!("{operation:?}"),
                    service,
                    served_by: answer.header("x-served-by").unwrap_or_default().to_owned(),
                    sent: begun.token.clone(),
                    received: self.token_of(&answer),
                });
                self.answered(begun, operation, &answer, &exchange).await;
            }
            Err(error) => {
                self.connections.retain(|connection| !connection.leads_to(service));
                self.failed(begun, operation, &error.to_string());
            }
        }
    }

    async fn answered(
        &mut self,
        begun: Begun,
        operation: Operation,
        answer: &Answer,
        exchange: &Arc<Exchange>,
    ) {
        let user = Arc::clone(&self.user);
        let outcome = operation.outcome(&user.asker, &begun.era.rooms(), answer);
        let unknown = matches!(outcome, Outcome::Unknown);
        if let Outcome::Wrote(Fact::Room(room)) = &outcome {
            begun.era.founded(*room);
        }
        let violations = user.end(&mut self.memory, &begun, outcome, exchange);
        if unknown {
            return self.failed(begun, operation, &format!("{} {}", answer.status, answer.text));
        }
        let by_primary = self.world.is_primary(&exchange.served_by);
        self.report.served(operation.writes(), Served { took: exchange.took, by_primary });
        if user.carrier != Carrier::None {
            let token = exchange.received.as_deref().unwrap_or(&exchange.sent);
            self.report.token(operation.writes(), token);
        }
        for violation in violations {
            let evidence = match user.carrier {
                Carrier::Header | Carrier::Cookie if self.report.is_curious() => {
                    evidence::gather(&self.world).await
                }
                _ => String::new(),
            };
            self.report.violated(&violation, exchange, evidence);
        }
    }

    /// What is done next. Four of five are reads.
    fn choose(&mut self, era: &Arc<Era>, history: &History<Arc<Exchange>>) -> Operation {
        if let Some((of, operation)) = self.unanswered.take()
            && Arc::ptr_eq(&of, era)
        {
            return operation;
        }
        if era.wants_room() {
            let key = self.key();
            return Operation::FoundRoom { name: format!("{} {key}", self.name) };
        }
        let rooms = era.rooms();
        let Some(&room) = rooms.choose(&mut self.rng) else { return Operation::Rooms };
        let limit = *[10, 20, 100].choose(&mut self.rng).unwrap();
        match self.rng.random_range(0..100) {
            0 => {
                let key = self.key();
                Operation::SignUp { name: format!("{}-{key}", self.user.asker.word) }
            }
            1..16 => Operation::Post { room, key: self.key() },
            16..20 => match history.newest(room) {
                Some(message) => Operation::MarkRead { room, message },
                None => Operation::Rooms,
            },
            20..60 => Operation::History { room, before: None, limit },
            60..70 => {
                let before = history.one_of(room, self.rng.random());
                Operation::History { room, before, limit }
            }
            70..80 => Operation::Search { room, limit },
            80..85 => match history.user() {
                Some(name) => Operation::FindUser { name: name.to_owned() },
                None => Operation::Rooms,
            },
            _ => Operation::Rooms,
        }
    }

    /// Unique among all that this window sends.
    fn key(&mut self) -> String {
        self.keys += 1;
        format!("{}-{}", self.turn, self.keys)
    }

    async fn ask(
        &mut self,
        service: SocketAddr,
        operation: &Operation,
        token: &str,
    ) -> Result<Answer, Failure> {
        let place = match self.connections.iter().position(|connection| connection.leads_to(service)) {
            Some(place) => place,
            None => {
                self.connections.push(Connection::open(service).await?);
                self.connections.len() - 1
            }
        };
        let (method, path, body) = operation.request(&self.user.asker);
        let cookie = format!("{COOKIE}={token}");
        let header = match self.user.carrier {
            _ if token.is_empty() => None,
            Carrier::None => None,
            Carrier::Header => Some((HEADER, token)),
            Carrier::Cookie => Some(("cookie", &*cookie)),
        };
        self.connections[place].send(method, &path, header, body).await
    }

    fn token_of(&self, answer: &Answer) -> Option<String> {
        match self.user.carrier {
            Carrier::None => None,
            Carrier::Header => answer.header(HEADER).map(str::to_owned),
            Carrier::Cookie => {
                let cookies = answer.headers.get_all(SET_COOKIE).iter().filter_map(|text| text.to_str().ok());
                let mut values = cookies.filter_map(|text| text.strip_prefix(COOKIE)?.strip_prefix('='));
                values.next().map(|text| text.split(';').next().unwrap_or_default().to_owned())
            }
        }
    }

    /// A write may have been done all the same. A message is sent again, which does not post it twice.
    fn failed(&mut self, begun: Begun, operation: Operation, why: &str) {
        self.report.failed(operation.writes(), why);
        match operation {
            Operation::FoundRoom { .. } => begun.era.was_not_founded(),
            Operation::Post { .. } => self.unanswered = Some((begun.era, operation)),
            _ => {}
        }
    }
}
