//! What one user has been told so far, and what each later read therefore has to show.
//!
//! Nothing here knows of HTTP, tokens or nodes: facts and answers go in, violations come out. `O` says where something was
//! learned, for the report.

use std::collections::{BTreeMap, BTreeSet};

/// What a user was told to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    User(String),
    Room(i64),
    Message {
        room: i64,
        id: i64,
    },
    /// The room is read up to this message at least.
    Marker {
        room: i64,
        message: i64,
    },
}

/// What a read returned.
#[derive(Debug)]
pub enum Answer {
    /// Messages of a room.
    Messages(Page),
    /// All rooms that there are, as far as they matter.
    Rooms(Vec<RoomLine>),
    /// Whether there is a user of this name.
    User { name: String, found: bool },
}

/// The newest `limit` messages of a room that are older than `before`.
#[derive(Debug)]
pub struct Page {
    pub room: i64,
    pub before: Option<i64>,
    pub limit: usize,
    /// Whether only the user's own were asked for.
    pub own: bool,
    /// Newest first; `None` when there was no such room.
    pub messages: Option<Vec<MessageLine>>,
}

#[derive(Debug, Clone, Copy)]
pub struct MessageLine {
    pub id: i64,
    /// Whether the user is its author.
    pub own: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct RoomLine {
    pub room: i64,
    pub messages: i64,
    /// Messages of others past the user's marker.
    pub unread: i64,
    pub last: Option<i64>,
}

/// A point in a user's history: what was learned before a request began is what its answer has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guarantee {
    ReadYourWrites,
    MonotonicReads,
}

/// What a read did not show as it was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    User,
    Room,
    Message,
    LastMessage,
    MessageCount,
    Marker,
}

/// A read that went back behind what its user knew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation<O> {
    pub guarantee: Guarantee,
    pub missing: Missing,
    /// How many of them in this read.
    pub times: usize,
    /// The first of them.
    pub example: String,
    /// Where that had been learned.
    pub learned: O,
}

/// What one user has learned: from the answers to the user's writes, and from reads.
#[derive(Debug)]
pub struct History<O> {
    /// How much has been learned.
    now: u64,
    learns_from_reads: bool,
    things: BTreeMap<Thing, Known<O>>,
    counts: BTreeMap<i64, Growing<O>>,
    markers: BTreeMap<i64, Growing<O>>,
}

/// What does not go away again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    User(String),
    Room(i64),
    Message(i64, i64),
}

#[derive(Debug)]
struct Known<O> {
    own: bool,
    wrote: Option<Learned<O>>,
    saw: Option<Learned<O>>,
}

#[derive(Debug, Clone)]
struct Learned<O> {
    at: Moment,
    from: O,
}

/// A number that only grows, and when it was known to be at least so much: in the order of both.
type Growing<O> = Vec<(i64, Learned<O>)>;

impl<O> Known<O> {
    /// Which promise makes a read that began then show it.
    fn promised(&self, begun: Moment) -> impl Iterator<Item = (Guarantee, &Learned<O>)> {
        let wrote = self.wrote.iter().map(|learned| (Guarantee::ReadYourWrites, learned));
        let saw = self.saw.iter().map(|learned| (Guarantee::MonotonicReads, learned));
        wrote.chain(saw).filter(move |(_, learned)| learned.at < begun)
    }
}

impl<O: Clone> History<O> {
    pub fn new() -> Self {
        Self {
            now: 0,
            learns_from_reads: true,
            things: BTreeMap::new(),
            counts: BTreeMap::new(),
            markers: BTreeMap::new(),
        }
    }

    /// Of a user whom nobody promised monotonic reads.
    pub fn of_writes() -> Self {
        Self { learns_from_reads: false, ..Self::new() }
    }

    pub fn now(&self) -> Moment {
        Moment(self.now)
    }

    /// A write was acknowledged.
    pub fn wrote(&mut self, fact: Fact, from: &O) {
        let learned = self.learn(from);
        let thing = match fact {
            Fact::User(name) => Thing::User(name),
            Fact::Room(room) => Thing::Room(room),
            Fact::Message { room, id } => Thing::Message(room, id),
            Fact::Marker { room, message } => return grow(&mut self.markers, room, message, learned),
        };
        let known = self.things.entry(thing).or_insert(Known { own: true, wrote: None, saw: None });
        known.wrote.get_or_insert(learned);
    }

    /// A read that began at this moment has returned. Says what it lacked, and learns what it showed.
    pub fn read(&mut self, begun: Moment, answer: &Answer, from: &O) -> Vec<Violation<O>> {
        let mut found = Violations(Vec::new());
        match answer {
            Answer::Messages(page) => self.check_page(begun, page, &mut found),
            Answer::Rooms(rooms) => self.check_rooms(begun, rooms, &mut found),
            Answer::User { name, found: shown } => {
                if !shown {
                    self.check_thing(begun, Missing::User, &Thing::User(name.clone()), &mut found);
                }
            }
        }
        if self.learns_from_reads {
            self.saw(answer, from);
        }
        found.0
    }

    /// The newest message of the room that is known.
    pub fn newest(&self, room: i64) -> Option<i64> {
        self.ids(room, i64::MIN, None).next_back().map(|(id, _)| id)
    }

    /// One of the messages of the room that are known, as `choice` of 0 to 1 has it.
    pub fn one_of(&self, room: i64, choice: f64) -> Option<i64> {
        let index = self.ids(room, i64::MIN, None).count() as f64 * choice;
        self.ids(room, i64::MIN, None).nth(index as usize).map(|(id, _)| id)
    }

    /// The user that was written last.
    pub fn user(&self) -> Option<&str> {
        let users = self.things.iter().filter_map(|(thing, known)| match thing {
            Thing::User(name) => Some((known.wrote.as_ref()?.at, name)),
            _ => None,
        });
        users.max().map(|(_, name)| name.as_str())
    }

    fn learn(&mut self, from: &O) -> Learned<O> {
        let at = self.now();
        self.now += 1;
        Learned { at, from: from.clone() }
    }

    fn saw(&mut self, answer: &Answer, from: &O) {
        let learned = self.learn(from);
        match answer {
            Answer::Messages(page) => {
                let Some(messages) = &page.messages else { return };
                self.saw_thing(Thing::Room(page.room), false, &learned);
                for message in messages {
                    self.saw_thing(Thing::Message(page.room, message.id), message.own, &learned);
                }
            }
            Answer::Rooms(rooms) => {
                for line in rooms {
                    self.saw_thing(Thing::Room(line.room), false, &learned);
                    if let Some(last) = line.last {
                        self.saw_thing(Thing::Message(line.room, last), false, &learned);
                    }
                    grow(&mut self.counts, line.room, line.messages, learned.clone());
                }
            }
            Answer::User { name, found: true } => {
                self.saw_thing(Thing::User(name.clone()), false, &learned);
            }
            Answer::User { found: false, .. } => {}
        }
    }

    fn saw_thing(&mut self, thing: Thing, own: bool, learned: &Learned<O>) {
        let known = self.things.entry(thing).or_insert(Known { own, wrote: None, saw: None });
        known.own |= own;
        known.saw.get_or_insert_with(|| learned.clone());
    }

    /// Whatever is known of the part that the page covers has to be on it.
    fn check_page(&self, begun: Moment, page: &Page, found: &mut Violations<O>) {
        let shown = match &page.messages {
            Some(messages) => messages.as_slice(),
            None => {
                self.check_thing(begun, Missing::Room, &Thing::Room(page.room), found);
                &[]
            }
        };
        let is_cut = shown.len() >= page.limit;
        let from = shown.last().filter(|_| is_cut).map_or(i64::MIN, |oldest| oldest.id);
        for (id, known) in self.ids(page.room, from, page.before) {
            let asked = known.own || !page.own;
            if asked && !shown.iter().any(|message| message.id == id) {
                self.check_thing(begun, Missing::Message, &Thing::Message(page.room, id), found);
            }
        }
    }

    fn check_rooms(&self, begun: Moment, lines: &[RoomLine], found: &mut Violations<O>) {
        let rooms: BTreeSet<i64> = self.things.keys().filter_map(Thing::room).collect();
        for room in rooms {
            match lines.iter().find(|line| line.room == room) {
                Some(line) => self.check_room(begun, line, found),
                None => self.check_thing(begun, Missing::Room, &Thing::Room(room), found),
            }
        }
    }

    fn check_room(&self, begun: Moment, line: &RoomLine, found: &mut Violations<O>) {
        let known: Vec<_> = self
            .ids(line.room, i64::MIN, None)
            .filter(|(_, known)| known.promised(begun).next().is_some())
            .collect();
        if let Some((newest, _)) = known.last()
            && line.last.is_none_or(|last| last < *newest)
        {
            self.check_thing(begun, Missing::LastMessage, &Thing::Message(line.room, *newest), found);
        }

        let all = known.len() as i64;
        let counted = at(&self.counts, line.room, begun).filter(|(count, _)| line.messages < *count);
        if let Some((count, learned)) = counted {
            let example = format!("room {} has {} messages, it had {count}", line.room, line.messages);
            found.add(Guarantee::MonotonicReads, Missing::MessageCount, example, learned);
        } else if line.messages < all
            && let Some((_, last)) = known.last()
            && let Some((guarantee, learned)) = last.promised(begun).next()
        {
            let example = format!("room {} has {} messages, {all} are known", line.room, line.messages);
            found.add(guarantee, Missing::MessageCount, example, learned);
        }

        // Those past the marker are at most those that are not known to lie before it.
        if let Some((marker, learned)) = at(&self.markers, line.room, begun) {
            let before = known.iter().filter(|(id, _)| *id <= marker).count() as i64;
            if line.messages >= all && line.unread > line.messages - before {
                let example = format!(
                    "room {} is read up to {marker}, has {} messages with {before} known up to there, and {} are unread",
                    line.room, line.messages, line.unread
                );
                found.add(Guarantee::ReadYourWrites, Missing::Marker, example, learned);
            }
        }
    }

    /// The read did not show this.
    fn check_thing(&self, begun: Moment, missing: Missing, thing: &Thing, found: &mut Violations<O>) {
        let Some(known) = self.things.get(thing) else { return };
        for (guarantee, learned) in known.promised(begun) {
            found.add(guarantee, missing, format!("{thing:?}"), learned);
        }
    }

    fn ids(
        &self,
        room: i64,
        from: i64,
        before: Option<i64>,
    ) -> impl DoubleEndedIterator<Item = (i64, &Known<O>)> {
        let end = before.unwrap_or(i64::MAX).max(from);
        let range = self.things.range(Thing::Message(room, from)..Thing::Message(room, end));
        range.filter_map(|(thing, known)| match thing {
            Thing::Message(_, id) => Some((*id, known)),
            _ => None,
        })
    }
}

impl Thing {
    fn room(&self) -> Option<i64> {
        match self {
            Self::Room(room) | Self::Message(room, _) => Some(*room),
            Self::User(_) => None,
        }
    }
}

/// One entry for each promise and kind of thing in a read.
struct Violations<O>(Vec<Violation<O>>);

impl<O: Clone> Violations<O> {
    fn add(&mut self, guarantee: Guarantee, missing: Missing, example: String, learned: &Learned<O>) {
        let same = |other: &&mut Violation<O>| other.guarantee == guarantee && other.missing == missing;
        match self.0.iter_mut().find(same) {
            Some(before) => before.times += 1,
            None => {
                let learned = learned.from.clone();
                self.0.push(Violation { guarantee, missing, times: 1, example, learned });
            }
        }
    }
}

fn grow<O>(of: &mut BTreeMap<i64, Growing<O>>, room: i64, value: i64, learned: Learned<O>) {
    let steps = of.entry(room).or_default();
    if steps.last().is_none_or(|(last, _)| *last < value) {
        steps.push((value, learned));
    }
}

/// What it was known to be before a moment.
fn at<O>(of: &BTreeMap<i64, Growing<O>>, room: i64, begun: Moment) -> Option<(i64, &Learned<O>)> {
    let steps = of.get(&room)?;
    let known = steps.partition_point(|(_, learned)| learned.at < begun);
    let (value, learned) = steps.get(known.checked_sub(1)?)?;
    Some((*value, learned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Guarantee::{MonotonicReads, ReadYourWrites};
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{RngExt, SeedableRng};

    const ROOM: i64 = 7;

    fn page(ids: &[i64]) -> Page {
        let messages = ids.iter().map(|&id| MessageLine { id, own: false }).collect();
        Page { room: ROOM, before: None, limit: 10, own: false, messages: Some(messages) }
    }

    fn line(messages: i64, last: i64) -> RoomLine {
        RoomLine { room: ROOM, messages, unread: 0, last: Some(last) }
    }

    fn message(id: i64) -> Fact {
        Fact::Message { room: ROOM, id }
    }

    /// A read that begins now, in short: what it lacks and how often.
    fn lacks(history: &mut History<&'static str>, answer: Answer) -> Vec<(Guarantee, Missing, usize)> {
        let found = history.read(history.now(), &answer, &"a read");
        found.into_iter().map(|violation| (violation.guarantee, violation.missing, violation.times)).collect()
    }

    fn shows(history: &mut History<&'static str>, ids: &[i64]) -> Vec<(Guarantee, Missing, usize)> {
        lacks(history, Answer::Messages(page(ids)))
    }

    fn lists(history: &mut History<&'static str>, line: RoomLine) -> Vec<(Guarantee, Missing, usize)> {
        lacks(history, Answer::Rooms(vec![line]))
    }

    #[test]
    fn what_was_written_must_be_read() {
        let mut history = History::new();
        history.wrote(message(1), &"first");
        history.wrote(message(3), &"second");
        let found = history.read(history.now(), &Answer::Messages(page(&[2])), &"a read");
        assert_eq!(
            found,
            [Violation {
                guarantee: ReadYourWrites,
                missing: Missing::Message,
                times: 2,
                example: "Message(7, 1)".to_owned(),
                learned: "first",
            }]
        );
        assert_eq!(shows(&mut history, &[3, 2, 1]), []);
    }

    #[test]
    fn what_was_seen_must_be_seen_again() {
        let mut history = History::new();
        assert_eq!(shows(&mut history, &[2, 1]), []);
        assert_eq!(shows(&mut history, &[1]), [(MonotonicReads, Missing::Message, 1)]);
        assert_eq!(shows(&mut history, &[2]), [(MonotonicReads, Missing::Message, 1)]);
        assert_eq!(shows(&mut history, &[4, 3, 2, 1]), []);
    }

    #[test]
    fn what_was_written_and_seen_is_promised_twice() {
        let mut history = History::new();
        history.wrote(message(1), &"a write");
        assert_eq!(shows(&mut history, &[1]), []);
        let both = [(ReadYourWrites, Missing::Message, 1), (MonotonicReads, Missing::Message, 1)];
        assert_eq!(shows(&mut history, &[]), both);
    }

    #[test]
    fn what_was_learned_after_a_read_began_need_not_be_in_it() {
        let mut history = History::new();
        let begun = history.now();
        history.wrote(message(1), &"a write");
        history.read(history.now(), &Answer::Messages(page(&[2, 1])), &"a quicker read");
        assert_eq!(history.read(begun, &Answer::Messages(page(&[])), &"a slow read"), []);
    }

    #[test]
    fn a_page_answers_for_what_it_covers() {
        let mut history = History::of_writes();
        for id in 1..=9 {
            history.wrote(message(id), &"a write");
        }
        let part = |before, limit, ids: &[i64]| Answer::Messages(Page { before, limit, ..page(ids) });
        assert_eq!(lacks(&mut history, part(None, 2, &[9, 8])), []);
        assert_eq!(lacks(&mut history, part(Some(5), 2, &[4, 3])), []);
        assert_eq!(lacks(&mut history, part(Some(3), 4, &[2, 1])), []);
        assert_eq!(lacks(&mut history, part(Some(1), 4, &[])), []);
        assert_eq!(lacks(&mut history, part(Some(5), 2, &[4, 2])), [(ReadYourWrites, Missing::Message, 1)]);
        assert_eq!(lacks(&mut history, part(Some(3), 4, &[2])), [(ReadYourWrites, Missing::Message, 1)]);
    }

    #[test]
    fn other_rooms_and_messages_of_others_are_not_asked_for() {
        let mut history = History::new();
        history.wrote(Fact::Message { room: ROOM + 1, id: 1 }, &"a write");
        history.wrote(Fact::Message { room: ROOM - 1, id: 2 }, &"a write");
        assert_eq!(shows(&mut history, &[3]), []);
        let own = |ids: &[i64]| Answer::Messages(Page { own: true, ..page(ids) });
        assert_eq!(lacks(&mut history, own(&[])), []);
        history.wrote(message(4), &"a write");
        assert_eq!(lacks(&mut history, own(&[4])), []);
        let found = lacks(&mut history, own(&[]));
        assert_eq!(found, [(ReadYourWrites, Missing::Message, 1), (MonotonicReads, Missing::Message, 1)]);
    }

    #[test]
    fn a_room_and_a_user_that_were_made_must_be_there() {
        let mut history = History::new();
        history.wrote(Fact::Room(ROOM), &"a write");
        history.wrote(Fact::User("ada".to_owned()), &"a write");
        assert_eq!(history.user(), Some("ada"));
        assert_eq!(lacks(&mut history, Answer::Rooms(vec![])), [(ReadYourWrites, Missing::Room, 1)]);
        let missing = Answer::Messages(Page { messages: None, ..page(&[]) });
        assert_eq!(lacks(&mut history, missing), [(ReadYourWrites, Missing::Room, 1)]);
        let user = |found| Answer::User { name: "ada".to_owned(), found };
        assert_eq!(lacks(&mut history, user(false)), [(ReadYourWrites, Missing::User, 1)]);
        assert_eq!(lacks(&mut history, user(true)), []);
        let both = [(ReadYourWrites, Missing::User, 1), (MonotonicReads, Missing::User, 1)];
        assert_eq!(lacks(&mut history, user(false)), both);
        let other = Answer::User { name: "bob".to_owned(), found: false };
        assert_eq!(lacks(&mut history, other), []);
        assert_eq!(lists(&mut history, RoomLine { last: None, ..line(0, 0) }), []);
        let both = [(ReadYourWrites, Missing::Room, 1), (MonotonicReads, Missing::Room, 1)];
        assert_eq!(lacks(&mut history, Answer::Rooms(vec![])), both);
    }

    #[test]
    fn counts_never_go_back() {
        let mut history = History::new();
        assert_eq!(lists(&mut history, line(5, 50)), []);
        assert_eq!(lists(&mut history, line(5, 50)), []);
        assert_eq!(lists(&mut history, line(4, 50)), [(MonotonicReads, Missing::MessageCount, 1)]);
        assert_eq!(lists(&mut history, line(6, 60)), []);
        assert_eq!(lists(&mut history, line(6, 50)), [(MonotonicReads, Missing::LastMessage, 1)]);
    }

    #[test]
    fn counts_are_no_less_than_what_is_known() {
        let mut history = History::new();
        for id in 1..=3 {
            history.wrote(message(id), &"a write");
        }
        assert_eq!(lists(&mut history, line(2, 3)), [(ReadYourWrites, Missing::MessageCount, 1)]);
        assert_eq!(lists(&mut history, line(3, 3)), []);
        assert_eq!(shows(&mut history, &[5, 4, 3, 2, 1]), []);
        assert_eq!(lists(&mut history, line(4, 5)), [(MonotonicReads, Missing::MessageCount, 1)]);
    }

    #[test]
    fn a_message_of_ones_own_is_the_last_or_before_it() {
        let mut history = History::new();
        history.wrote(message(8), &"a write");
        assert_eq!(lists(&mut history, line(9, 7)), [(ReadYourWrites, Missing::LastMessage, 1)]);
        let none = RoomLine { last: None, ..line(9, 0) };
        assert_eq!(lists(&mut history, none)[0], (ReadYourWrites, Missing::LastMessage, 1));
        assert_eq!(lists(&mut history, line(9, 9)), []);
    }

    #[test]
    fn markers_that_were_set_are_seen() {
        let mut history = History::new();
        assert_eq!(shows(&mut history, &[4, 3, 2, 1]), []);
        let unread = |unread| RoomLine { unread, ..line(6, 6) };
        assert_eq!(lists(&mut history, unread(6)), []);
        history.wrote(Fact::Marker { room: ROOM, message: 4 }, &"a marker");
        history.wrote(Fact::Marker { room: ROOM, message: 2 }, &"an older one");
        assert_eq!(lists(&mut history, unread(2)), []);
        assert_eq!(lists(&mut history, unread(0)), []);
        assert_eq!(lists(&mut history, unread(3)), [(ReadYourWrites, Missing::Marker, 1)]);
    }

    #[test]
    fn without_that_promise_reads_teach_nothing() {
        let mut history = History::of_writes();
        history.wrote(message(1), &"a write");
        assert_eq!(shows(&mut history, &[2, 1]), []);
        assert_eq!(lists(&mut history, line(2, 2)), []);
        assert_eq!(shows(&mut history, &[1]), []);
        assert_eq!(lists(&mut history, line(1, 1)), []);
        assert_eq!(shows(&mut history, &[2]), [(ReadYourWrites, Missing::Message, 1)]);
    }

    /// A room as it is after each of its writes, some of them the user's. Ids are not in the order of the commits.
    struct Room {
        writes: Vec<Write>,
    }

    #[derive(Clone, Copy)]
    enum Write {
        Message(MessageLine),
        Marker(i64),
    }

    impl Room {
        fn random(rng: &mut StdRng) -> Self {
            let mut ids: Vec<i64> = (1..60).collect();
            for start in (0..ids.len() - 4).step_by(2) {
                ids[start..start + 4].shuffle(rng);
            }
            let mut writes = Vec::new();
            for id in ids {
                writes.push(Write::Message(MessageLine { id, own: rng.random_bool(0.3) }));
                if rng.random_bool(0.2) {
                    writes.push(Write::Marker(id));
                }
            }
            Self { writes }
        }

        fn messages(&self, version: usize) -> Vec<MessageLine> {
            let written = self.writes[..version].iter();
            let mut messages: Vec<_> = written
                .filter_map(|write| match write {
                    Write::Message(message) => Some(*message),
                    Write::Marker(_) => None,
                })
                .collect();
            messages.sort_by_key(|message| -message.id);
            messages
        }

        fn line(&self, version: usize) -> RoomLine {
            let markers = self.writes[..version].iter().filter_map(|write| match write {
                Write::Marker(marker) => Some(*marker),
                Write::Message(_) => None,
            });
            let (marker, messages) = (markers.max().unwrap_or_default(), self.messages(version));
            RoomLine {
                room: ROOM,
                messages: messages.len() as i64,
                unread: messages.iter().filter(|message| message.id > marker && !message.own).count() as i64,
                last: messages.first().map(|message| message.id),
            }
        }

        /// Any read of it.
        fn answer(&self, version: usize, rng: &mut StdRng) -> Answer {
            if rng.random_bool(0.3) {
                return Answer::Rooms(vec![self.line(version)]);
            }
            let before = rng.random_bool(0.5).then(|| rng.random_range(1..60));
            let (limit, own) = (rng.random_range(1..20), rng.random_bool(0.3));
            let fits = |message: &MessageLine| {
                before.is_none_or(|before| message.id < before) && (message.own || !own)
            };
            let messages = self.messages(version).into_iter().filter(fits).take(limit).collect();
            Answer::Messages(Page { room: ROOM, before, limit, own, messages: Some(messages) })
        }
    }

    #[test]
    fn only_stale_reads_violate_anything() {
        let mut violations = 0;
        for seed in 0..300 {
            let mut rng = StdRng::seed_from_u64(seed);
            let room = Room::random(&mut rng);
            // What the user knows of, as the number of writes that a fresh read shows.
            let (mut history, mut known) = (History::new(), 0);
            for version in 1..=room.writes.len() {
                match room.writes[version - 1] {
                    Write::Message(message) if message.own => {
                        history.wrote(Fact::Message { room: ROOM, id: message.id }, &"a write");
                        known = version;
                    }
                    Write::Message(_) => {}
                    Write::Marker(message) => {
                        history.wrote(Fact::Marker { room: ROOM, message }, &"a write");
                        known = version;
                    }
                }
                let shown = rng.random_range(known..=version);
                let found = history.read(history.now(), &room.answer(shown, &mut rng), &"a fresh read");
                assert_eq!(found, [], "seed {seed}, {shown} of {version} writes");
                known = shown;
                if version % 8 == 0 {
                    let shown = rng.random_range(0..=known);
                    let answer = room.answer(shown, &mut rng);
                    let stale = history.read(history.now(), &answer, &"a stale read");
                    violations += usize::from(!stale.is_empty());
                }
            }
        }
        assert!(violations > 1000, "{violations}");
    }
}
