//! Again and again, under random edits: a model keeps what was answered, and every run sends what the model says and
//! no more. `PROPTEST_CASES=500` tries more sequences than the few that are always the same.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::cli::{Cli, lines, rows_of};
use crate::server::{Reply, Server};

const CASES: u32 = 20;
const IN_FLIGHT: usize = 4;
/// How long the server takes for an answer: long enough to be interrupted.
const ANSWER: Duration = Duration::from_millis(2);

#[derive(Clone, Debug)]
enum Row {
    Asks { id: Option<u8>, prompt: u8, tag: u8 },
    Bad(u8),
}

#[derive(Clone, Debug)]
enum Edit {
    Prompt(Index, u8),
    Tag(Index, u8),
    Id(Index, Option<u8>),
    Insert(Index, Row),
    Duplicate(Index, Index),
    Remove(Index),
    BringBack(Index),
    Move(Index, Index),
    Reverse,
    OtherFormat,
}

#[derive(Clone, Debug)]
enum Cut {
    Kill(Index),
    Interrupt(Index),
}

#[derive(Clone, Debug)]
struct Step {
    edits: Vec<Edit>,
    /// Prompts that the server refuses in this step: those with this remainder.
    refused: Option<u8>,
    cuts: Vec<Cut>,
}

fn row() -> impl Strategy<Value = Row> {
    prop_oneof![
        9 => (proptest::option::of(0..60_u8), 0..25_u8, 0..4_u8)
            .prop_map(|(id, prompt, tag)| Row::Asks { id, prompt, tag }),
        1 => (0..9_u8).prop_map(Row::Bad),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), 0..25_u8).prop_map(|(at, prompt)| Edit::Prompt(at, prompt)),
        2 => (at(), 0..4_u8).prop_map(|(at, tag)| Edit::Tag(at, tag)),
        2 => (at(), proptest::option::of(0..60_u8)).prop_map(|(at, id)| Edit::Id(at, id)),
        3 => (at(), row()).prop_map(|(at, row)| Edit::Insert(at, row)),
        2 => (at(), at()).prop_map(|(from, to)| Edit::Duplicate(from, to)),
        4 => at().prop_map(Edit::Remove),
        3 => at().prop_map(Edit::BringBack),
        2 => (at(), at()).prop_map(|(from, to)| Edit::Move(from, to)),
        1 => Just(Edit::Reverse),
        1 => Just(Edit::OtherFormat),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let cut = prop_oneof![any::<Index>().prop_map(Cut::Kill), any::<Index>().prop_map(Cut::Interrupt)];
    let refused = prop_oneof![2 => Just(None), 1 => (0..4_u8).prop_map(Some)];
    let cuts = prop_oneof![2 => Just(Vec::new()), 1 => vec(cut, 1..3)];
    (vec(edit(), 0..7), refused, cuts).prop_map(|(edits, refused, cuts)| Step { edits, refused, cuts })
}

#[test]
fn whatever_is_edited_every_row_is_answered_once_and_nothing_is_paid_twice() {
    let default = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { CASES };
    let config = Config { cases, max_shrink_iters: 150, failure_persistence: None, ..default };
    let random = TestRng::deterministic_rng(config.rng_algorithm);
    let sequences = (vec(row(), 10..40), vec(step(), 4..7));
    let ran = TestRunner::new_with_rng(config, random).run(&sequences, |(rows, steps)| {
        let mut world = World::new(rows);
        for step in &steps {
            world.go(step);
        }
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
}

/// By what a row is known again: its id and its prompt, or its prompt and how many equal ones came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    WithId(u8, u8),
    Nth(usize, u8),
}

/// What a row of the input is to become.
#[derive(Clone, Copy, Debug)]
enum Meant {
    Asked(Key, u8),
    Bad,
}

/// The files and the server, and the model of them.
struct World {
    cli: Cli,
    server: Server,
    refused: Arc<Mutex<Option<u8>>>,
    rows: Vec<Row>,
    removed: Vec<Row>,
    csv: bool,
    answered: HashSet<Key>,
}

impl World {
    fn new(rows: Vec<Row>) -> Self {
        let refused = Arc::new(Mutex::new(None));
        let told = Arc::clone(&refused);
        let server = Server::start(move |received, _| {
            let number: u8 = received.prompt().trim_start_matches("Question ").parse().unwrap();
            let refused = told.lock().unwrap().is_some_and(|rest| number % 4 == rest);
            if refused { Reply::bad_request() } else { Reply::Answer.after(ANSWER) }
        });
        let (removed, answered) = (Vec::new(), HashSet::new());
        Self { cli: Cli::new(), server, refused, rows, removed, csv: false, answered }
    }

    fn go(&mut self, step: &Step) {
        for edit in &step.edits {
            self.edit(edit);
        }
        self.write_input();
        *self.refused.lock().unwrap() = step.refused;
        let before = self.server.prompts();
        let meant = self.meant();
        for cut in &step.cuts {
            self.run_cut_short(cut, &meant, &before);
        }
        let code = self.run_to_the_end(&meant);
        self.check_requests(step, &meant, &before);
        let refused = |prompt: u8| step.refused.is_some_and(|rest| prompt % 4 == rest);
        for row in &meant {
            if let Meant::Asked(key, prompt) = row
                && !refused(*prompt)
            {
                self.answered.insert(*key);
            }
        }
        let failed = self.check_output(&meant);
        assert_eq!(code, Some(if failed { 3 } else { 0 }));
    }

    fn edit(&mut self, edit: &Edit) {
        let count = self.rows.len();
        match (edit, count) {
            (Edit::OtherFormat, _) => self.csv = !self.csv,
            (Edit::Insert(to, row), _) => self.rows.insert(to.index(count + 1), row.clone()),
            (Edit::BringBack(to), _) => {
                if let Some(row) = self.removed.pop() {
                    self.rows.insert(to.index(count + 1), row);
                }
            }
            (_, 0) => {}
            (Edit::Prompt(at, new), _) => {
                if let Row::Asks { prompt, .. } = &mut self.rows[at.index(count)] {
                    *prompt = *new;
                }
            }
            (Edit::Tag(at, new), _) => {
                if let Row::Asks { tag, .. } = &mut self.rows[at.index(count)] {
                    *tag = *new;
                }
            }
            (Edit::Id(at, new), _) => {
                if let Row::Asks { id, .. } = &mut self.rows[at.index(count)] {
                    *id = *new;
                }
            }
            (Edit::Duplicate(from, to), _) => {
                let row = self.rows[from.index(count)].clone();
                self.rows.insert(to.index(count + 1), row);
            }
            (Edit::Remove(at), _) => self.removed.push(self.rows.remove(at.index(count))),
            (Edit::Move(from, to), _) => {
                let row = self.rows.remove(from.index(count));
                self.rows.insert(to.index(count), row);
            }
            (Edit::Reverse, _) => self.rows.reverse(),
        }
    }

    fn input_name(&self) -> &'static str {
        if self.csv { "in.csv" } else { "in.jsonl" }
    }

    fn write_input(&self) {
        let header = self.csv.then(|| "id,prompt,tag".to_owned());
        let rows = self.rows.iter().map(|row| if self.csv { csv_line(row) } else { json_line(row) });
        self.cli.write(self.input_name(), lines(header.into_iter().chain(rows)));
    }

    /// What each row is to become, by the rules for identity.
    fn meant(&self) -> Vec<Meant> {
        let (mut ids, mut equal) = (HashSet::new(), HashMap::new());
        let meant = |row: &Row| match row {
            Row::Asks { id: Some(id), prompt, .. } => {
                if ids.insert(*id) {
                    Meant::Asked(Key::WithId(*id, *prompt), *prompt)
                } else {
                    Meant::Bad
                }
            }
            Row::Asks { id: None, prompt, .. } => {
                let before = equal.entry(*prompt).or_insert(0);
                *before += 1;
                Meant::Asked(Key::Nth(*before, *prompt), *prompt)
            }
            Row::Bad(_) => Meant::Bad,
        };
        self.rows.iter().map(meant).collect()
    }

    fn arguments(&self) -> Vec<&'static str> {
        vec!["run", self.input_name(), "-o", "out.jsonl", "-c", "4", "-m", "m", "--progress", "none"]
    }

    /// How many requests there are still to send, by prompt.
    fn needed(&self, meant: &[Meant]) -> HashMap<String, usize> {
        let mut needed = HashMap::new();
        for row in meant {
            if let Meant::Asked(key, prompt) = row
                && !self.answered.contains(key)
            {
                *needed.entry(question(*prompt)).or_default() += 1;
            }
        }
        needed
    }

    /// A run that is killed or interrupted when some of its requests have arrived.
    fn run_cut_short(&self, cut: &Cut, meant: &[Meant], before: &HashMap<String, usize>) {
        let (Cut::Kill(at) | Cut::Interrupt(at)) = cut;
        let sent = self.server.count() - before.values().sum::<usize>();
        // An earlier cut may have sent some of them twice: then there are fewer left than it seems.
        let left = self.needed(meant).values().sum::<usize>().saturating_sub(sent + 1);
        if left == 0 {
            return;
        }
        let url = self.server.base_url();
        let arguments = [&self.arguments()[..], &["--base-url", &url, "--drop-unmatched"]].concat();
        let arrived = self.server.count();
        let running = self.cli.start(&arguments);
        self.server.wait_for(arrived + 1 + at.index(left));
        match cut {
            Cut::Kill(_) => running.kill(),
            Cut::Interrupt(_) => {
                running.interrupt();
                let code = running.wait().code;
                assert!(matches!(code, Some(0 | 3 | 130)), "{code:?}");
            }
        }
    }

    /// Runs the job. It may refuse where answers belong to no row, and only there.
    fn run_to_the_end(&self, meant: &[Meant]) -> Option<i32> {
        let url = self.server.base_url();
        let arguments = [&self.arguments()[..], &["--base-url", &url]].concat();
        let sent = self.server.count();
        let ended = self.cli.run(&arguments);
        if ended.code != Some(1) {
            return ended.code;
        }
        let refused = ended.says("--drop-unmatched");
        let matched =
            meant.iter().filter(|row| matches!(row, Meant::Asked(key, _) if self.answered.contains(key)));
        // How many of them count is for the ledger to say: those of rows that had left before count no more.
        assert!(matched.count() < self.answered.len(), "refused without need: {}", refused.stderr);
        assert_eq!(self.server.count(), sent, "refused, but something was sent");
        self.cli.run(&[&arguments[..], &["--drop-unmatched"]].concat()).code
    }

    fn check_requests(&self, step: &Step, meant: &[Meant], before: &HashMap<String, usize>) {
        let needed = self.needed(meant);
        let kills = step.cuts.iter().filter(|cut| matches!(cut, Cut::Kill(_))).count();
        let mut twice = 0;
        for (prompt, count) in self.server.prompts() {
            let sent = count - before.get(&prompt).unwrap_or(&0);
            let needed = needed.get(&prompt).copied().unwrap_or(0);
            assert!(sent >= needed, "{prompt}: {sent} requests of {needed}");
            assert!(sent == 0 || needed > 0, "{prompt}: paid again, {sent} requests");
            let number: u8 = prompt.trim_start_matches("Question ").parse().unwrap();
            if step.refused.is_some_and(|rest| number % 4 == rest) {
                // What was refused before a cut is tried again after it.
                assert!(sent <= needed * (1 + step.cuts.len()), "{prompt}: {sent} requests of {needed}");
            } else {
                twice += sent - needed;
            }
        }
        assert!(twice <= kills * IN_FLIGHT, "{twice} requests too many in {kills} kills");
        for prompt in needed.keys() {
            assert!(self.server.prompts().contains_key(prompt), "{prompt} was never sent");
        }
    }

    /// Whether a row failed. Every row must be there, in order, and as it is now.
    fn check_output(&self, meant: &[Meant]) -> bool {
        let output = rows_of(&self.cli.read("out.jsonl"));
        assert_eq!(output.len(), self.rows.len());
        let mut failed = false;
        for (index, (out, (row, meant))) in output.iter().zip(self.rows.iter().zip(meant)).enumerate() {
            assert_eq!(out["index"], index, "{out}");
            assert_eq!(out["input"], self.input_of(row), "{out}");
            assert_eq!(out["id"], id_of(row, index), "{out}");
            match meant {
                Meant::Asked(key, prompt) if self.answered.contains(key) => {
                    assert_eq!(out["status"], "ok", "{out}");
                    assert_eq!(out["output"], format!("echo: {}", question(*prompt)), "{out}");
                }
                Meant::Asked(..) => {
                    failed = true;
                    assert_eq!(out["error"]["kind"], "bad_request", "{out}");
                }
                Meant::Bad => {
                    failed = true;
                    let line = index + 1 + usize::from(self.csv);
                    let place = format!("{}:{line}:", self.input_name());
                    assert_eq!(out["error"]["kind"], "invalid_input", "{out}");
                    assert!(out["error"]["message"].as_str().unwrap().starts_with(&place), "{place} {out}");
                }
            }
        }
        failed
    }

    fn input_of(&self, row: &Row) -> Value {
        match row {
            Row::Bad(_) if self.csv => json!(csv_line(row)),
            Row::Bad(_) => json!(json_line(row)),
            Row::Asks { id, prompt, tag } if self.csv => {
                let id = id.map_or_else(String::new, |id| format!("r{id}"));
                json!({"id": id, "prompt": question(*prompt), "tag": tag.to_string()})
            }
            Row::Asks { .. } => serde_json::from_str(&json_line(row)).unwrap(),
        }
    }
}

fn id_of(row: &Row, index: usize) -> Value {
    match row {
        Row::Asks { id: Some(id), .. } => json!(format!("r{id}")),
        _ => json!(index.to_string()),
    }
}

fn question(prompt: u8) -> String {
    format!("Question {prompt}")
}

fn json_line(row: &Row) -> String {
    match row {
        Row::Asks { id: Some(id), prompt, tag } => {
            json!({"id": format!("r{id}"), "prompt": question(*prompt), "tag": tag}).to_string()
        }
        Row::Asks { id: None, prompt, tag } => json!({"prompt": question(*prompt), "tag": tag}).to_string(),
        Row::Bad(n) => format!("{{\"broken\": {n}"),
    }
}

fn csv_line(row: &Row) -> String {
    match row {
        Row::Asks { id, prompt, tag } => {
            let id = id.map_or_else(String::new, |id| format!("r{id}"));
            format!("{id},{},{tag}", question(*prompt))
        }
        Row::Bad(n) => format!("broken {n}"),
    }
}
