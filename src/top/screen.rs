//! The terminal: taken over, drawn on, read from, and given back.

use super::Error;
use super::picture::{Line, Size, Tone};
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};
use std::io::{self, IsTerminal, Write, stdin, stdout};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc;

/// How soon the thread that reads keys notices that nobody wants them any more.
const PATIENCE: Duration = Duration::from_millis(100);

/// Whether the terminal is ours: it is given back once, by whoever comes first.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, until it is dropped.
pub(super) struct Screen {
    keys: mpsc::Receiver<Input>,
    ending: Ending,
}

/// What the user, or the system, wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Quit,
    Redraw,
}

impl Screen {
    pub(super) fn open() -> Result<Self, Error> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Err(Error::NoTerminal);
        }
        let ending = Ending::listen().map_err(Error::Terminal)?;
        give_back_on_panic();
        terminal::enable_raw_mode().map_err(Error::Terminal)?;
        TAKEN.store(true, Ordering::Release);
        // From here on dropping it gives the terminal back.
        let (told, keys) = mpsc::channel(16);
        let screen = Self { keys, ending };
        execute!(stdout(), EnterAlternateScreen, Hide).map_err(Error::Terminal)?;
        thread::spawn(move || read_keys(&told));
        Ok(screen)
    }

    pub(super) fn draw(&mut self, picture: impl FnOnce(Size) -> Vec<Line>) -> io::Result<()> {
        if !TAKEN.load(Ordering::Acquire) {
            return Err(io::Error::other("it was given back, since a part of the program has panicked"));
        }
        let (width, height) = terminal::size()?;
        let lines = picture(Size { width: width.into(), height: height.into() });
        let mut out = stdout().lock();
        for (row, Line { text, tone }) in (0..height).zip(&lines) {
            queue!(out, MoveTo(0, row))?;
            match tone {
                Tone::Plain => {}
                Tone::Title => queue!(out, SetAttribute(Attribute::Bold))?,
                Tone::Warning => queue!(out, SetForegroundColor(Color::Yellow))?,
                Tone::Bad => queue!(out, SetForegroundColor(Color::Red))?,
            }
            queue!(
                out,
                Print(text),
                ResetColor,
                SetAttribute(Attribute::Reset),
                Clear(ClearType::UntilNewLine)
            )?;
        }
        if lines.len() < usize::from(height) {
            // What was below a longer picture.
            queue!(out, MoveTo(0, lines.len() as u16), Clear(ClearType::FromCursorDown))?;
        }
        out.flush()
    }

    /// # Cancel safety
    ///
    /// Nothing is lost when it is dropped.
    pub(super) async fn input(&mut self) -> Input {
        tokio::select! {
            // Without a reader of keys nobody could quit.
            key = self.keys.recv() => key.unwrap_or(Input::Quit),
            () = self.ending.requested() => Input::Quit,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    if TAKEN.swap(false, Ordering::AcqRel) {
        // There is nobody to tell.
        let _ = execute!(stdout(), Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// Before the panic's message is printed, so that it can be read.
fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
    });
}

/// Until nobody listens, or the terminal has gone.
fn read_keys(told: &mpsc::Sender<Input>) {
    while !told.is_closed() {
        let input = match event::poll(PATIENCE) {
            Ok(false) => continue,
            Ok(true) => event::read().map(meaning),
            Err(error) => Err(error),
        };
        let ended = input.is_err();
        if let Some(input) = input.unwrap_or(Some(Input::Quit)) {
            // A full queue holds what comes to the same.
            let _ = told.try_send(input);
        }
        if ended {
            return;
        }
    }
}

fn meaning(event: Event) -> Option<Input> {
    match event {
        Event::Resize(..) => Some(Input::Redraw),
        Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) => match code {
            KeyCode::Char('q' | 'Q') => Some(Input::Quit),
            // In raw mode it is a key like others.
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Input::Quit),
            _ => None,
        },
        _ => None,
    }
}

/// The system's requests to end.
#[cfg(unix)]
struct Ending([tokio::signal::unix::Signal; 3]);

#[cfg(unix)]
impl Ending {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let [hangup, interrupt, terminate] =
            [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        Ok(Self([hangup?, interrupt?, terminate?]))
    }

    async fn requested(&mut self) {
        let [hangup, interrupt, terminate] = &mut self.0;
        tokio::select! {
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Ending;

#[cfg(not(unix))]
impl Ending {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn requested(&mut self) {
        // Where it cannot be listened to, keys are left.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
