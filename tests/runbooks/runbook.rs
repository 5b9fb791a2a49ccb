//! What is in a runbook that can be checked.
//!
//! | fence | is |
//! |---|---|
//! | `sh` | commands, run by bash |
//! | `text` | what the commands before it print: these lines, in this order, among others; `…` stands for any text |
//! | `log` | what the service logs meanwhile, in any order |

use std::collections::VecDeque;
use std::path::PathBuf;

/// The blocks of commands that are still to be run, in order.
pub struct Runbook {
    name: &'static str,
    blocks: VecDeque<Block>,
    logs: Vec<String>,
}

/// Some commands.
pub struct Block {
    section: String,
    line: usize,
    pub commands: String,
    prints: Vec<String>,
}

impl Runbook {
    pub fn open(name: &'static str) -> Self {
        let text = std::fs::read_to_string(path(name)).unwrap();
        let (mut blocks, mut logs) = (VecDeque::<Block>::new(), vec![]);
        let mut section = String::new();
        let mut lines = text.lines().enumerate();
        // Whether what comes next may be what the last block prints.
        let mut is_fresh = false;
        while let Some((number, line)) = lines.next() {
            if let Some(heading) = line.strip_prefix("## ") {
                (section, is_fresh) = (heading.to_owned(), false);
            }
            let Some(language) = line.strip_prefix("```") else { continue };
            let body = lines.by_ref().map(|(_, line)| line.to_owned()).take_while(|line| line != "```");
            let body: Vec<String> = body.collect();
            match language {
                "sh" => {
                    let (section, commands) = (section.clone(), body.join("\n"));
                    blocks.push_back(Block { section, line: number + 1, commands, prints: vec![] });
                }
                "text" if is_fresh => blocks.back_mut().expect("there is one").prints = body,
                "log" => logs.extend(body),
                _ => panic!("{name}.md, line {}: what kind of block is this?", number + 1),
            }
            is_fresh = language == "sh";
        }
        Self { name, blocks, logs }
    }

    /// The blocks of a section, which has to be the next one that has any.
    pub fn section(&mut self, section: &str) -> Vec<Block> {
        let mut blocks = vec![];
        while self.blocks.front().is_some_and(|block| block.section == section) {
            blocks.extend(self.blocks.pop_front());
        }
        let next = self.blocks.front().map(|block| &*block.section);
        assert!(
            !blocks.is_empty(),
            "{}.md: the next commands are those of {next:?}, not of {section:?}",
            self.name
        );
        blocks
    }

    /// Nothing more of it is to be run, or to be seen in the log.
    pub fn give_up(&mut self) {
        (self.blocks, self.logs) = Default::default();
    }

    pub fn place(&self, block: &Block) -> String {
        format!("{}.md, line {}, {:?}", self.name, block.line, block.section)
    }

    /// Fails if a block was not run, or if a line is not in the log of the service.
    pub fn finish(&self, log: &str) {
        if let Some(block) = self.blocks.front() {
            panic!("{} was not run", self.place(block));
        }
        let log = plain(log);
        for wanted in &self.logs {
            assert!(log.lines().any(|line| fits(wanted, line)), "{}.md: not in the log: {wanted}", self.name);
        }
    }
}

impl Block {
    /// The first line that is wanted and was not printed.
    pub fn misses(&self, printed: &str) -> Option<&str> {
        let mut lines = printed.lines();
        self.prints.iter().find(|wanted| !lines.any(|line| fits(wanted, line))).map(|line| &**line)
    }
}

/// Whether the pieces between `…` are in the line, in order.
fn fits(wanted: &str, line: &str) -> bool {
    let mut rest = line;
    wanted.split('…').map(str::trim).all(|piece| match rest.split_once(piece) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// Without colours.
fn plain(text: &str) -> String {
    let mut pieces = text.split('\u{1b}');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |plain, piece| plain + piece.split_once('m').map_or("", |(_, after)| after))
}

/// The functions of the index, which all runbooks use.
pub fn functions() -> String {
    let index = Runbook::open("README");
    index.blocks.iter().map(|block| &*block.commands).collect::<Vec<_>>().join("\n")
}

/// All runbooks but the index.
pub fn names() -> Vec<String> {
    let files = std::fs::read_dir(path("README").parent().unwrap()).unwrap();
    let mut names: Vec<String> = files
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "README")
        .collect();
    names.sort_unstable();
    names
}

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("docs/runbooks/{name}.md"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_with_gaps() {
        assert!(fits("state … streaming", "the state of it: streaming"));
        assert!(!fits("state … streaming", "streaming state"));
        assert!(fits("…", "") && fits("a", "bab"));
    }

    #[test]
    fn colours_are_no_text() {
        assert_eq!(plain("\u{1b}[33m WARN\u{1b}[0m x"), " WARN x");
    }
}
