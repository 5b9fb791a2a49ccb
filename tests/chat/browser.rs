//! Chromium without a window, spoken to through two pipes in the DevTools protocol: JSON, each message ended by a NUL.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use crate::until;

/// A running browser. Dropping it ends it.
pub struct Browser {
    /// `None` once it is to end, which the browser takes as its cue.
    pipe: Mutex<Option<Pipe>>,
    child: Child,
    profile: PathBuf,
}

struct Pipe {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    last_id: u64,
}

/// The browser, unless there is none and nobody insists.
///
/// # Panics
///
/// In CI, when there is none: a test that is silently skipped there proves nothing.
pub async fn browser() -> Option<Browser> {
    let Some(program) = installed() else {
        let missing = "no Chromium found: install it (Debian: apt install chromium, Fedora: dnf install chromium, \
                       macOS: brew install --cask chromium) or name its program in CHROMIUM";
        assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty() || ci == "false"), "{missing}");
        // Past the test harness, which shows nothing of what a passing test prints.
        let note = format!("\nSKIPPED, the page is not tested in a browser: {missing}\n");
        let _ = std::io::Write::write_all(&mut std::io::stderr(), note.as_bytes());
        return None;
    };
    Some(Browser::start(&program).await)
}

fn installed() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os("CHROMIUM") {
        return Some(program.into());
    }
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name)));
    let applications = ["Chromium", "Google Chrome"]
        .map(|name| PathBuf::from(format!("/Applications/{name}.app/Contents/MacOS/{name}")));
    on_path.chain(applications).find(|program| program.is_file())
}

impl Drop for Browser {
    fn drop(&mut self) {
        *self.pipe.get_mut() = None;
        // Its processes write to the profile until the end.
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut has_ended = || matches!(self.child.try_wait(), Ok(Some(_)));
        while Instant::now() < deadline && !(has_ended() && std::fs::remove_dir_all(&self.profile).is_ok()) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A directory for a profile, that no other browser has.
fn new_profile() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("chat-test-{}-{count}", std::process::id()))
}

impl Browser {
    async fn start(program: &Path) -> Self {
        let profile = new_profile();
        // Chromium wants the pipes as descriptors 3 and 4, which a shell can give.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#])
            .arg(program)
            .args(["--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage"])
            // As root, and in most containers, its sandbox does not start; it visits nothing but our own page.
            .args(["--no-sandbox", "--no-first-run"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a shell");
        let to = child.stdin.take().expect("piped above");
        let from = BufReader::new(child.stdout.take().expect("piped above"));
        let pipe = Mutex::new(Some(Pipe { to, from, last_id: 0 }));
        Self { pipe, child, profile }
    }

    /// A window of its own, with a storage of its own, that shows the page at `url`.
    pub async fn open(&self, url: &str, width: u32, height: u32) -> Window<'_> {
        let window = self.user().await.window().await;
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        window.call("Emulation.setDeviceMetricsOverride", metrics).await;
        window.go(url).await;
        window
    }

    /// Somebody whose windows have a storage and cookies in common.
    pub async fn user(&self) -> User<'_> {
        let context = self.call(None, "Target.createBrowserContext", json!({})).await;
        User { browser: self, context: context["browserContextId"].clone() }
    }

    async fn call(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let result = self.exchange(session, method, params).await;
        result.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn exchange(&self, session: Option<&str>, method: &str, params: Value) -> Result<Value, Value> {
        tokio::time::timeout(Duration::from_secs(30), self.exchange_in_time(session, method, params))
            .await
            .unwrap_or_else(|_| panic!("the browser does not answer to {method}"))
    }

    async fn exchange_in_time(
        &self,
        session: Option<&str>,
        method: &str,
        params: Value,
    ) -> Result<Value, Value> {
        let mut pipe = self.pipe.lock().await;
        let pipe = pipe.as_mut().expect("taken by drop alone");
        pipe.last_id += 1;
        let id = pipe.last_id;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        pipe.to.write_all(&bytes).await.expect("the browser listens");
        loop {
            let mut bytes = Vec::new();
            pipe.from.read_until(0, &mut bytes).await.expect("the browser speaks");
            assert_eq!(bytes.pop(), Some(0), "the browser ended");
            let mut answer: Value = serde_json::from_slice(&bytes).expect("JSON");
            if answer["id"] == id {
                let error = answer["error"].take();
                return if error.is_null() { Ok(answer["result"].take()) } else { Err(error) };
            }
        }
    }
}

/// Somebody in front of the browser.
pub struct User<'a> {
    browser: &'a Browser,
    context: Value,
}

impl<'a> User<'a> {
    /// A new window, with nothing in it.
    pub async fn window(&self) -> Window<'a> {
        let target = json!({ "url": "about:blank", "browserContextId": self.context, "newWindow": true });
        let target = self.browser.call(None, "Target.createTarget", target).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = self.browser.call(None, "Target.attachToTarget", attach).await;
        let session = session["sessionId"].as_str().expect("a session").to_owned();
        Window { browser: self.browser, session }
    }
}

/// A window with the page.
pub struct Window<'a> {
    browser: &'a Browser,
    session: String,
}

impl Window<'_> {
    async fn call(&self, method: &str, params: Value) -> Value {
        self.browser.call(Some(&self.session), method, params).await
    }

    pub async fn go(&self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
    }

    /// Runs a script on each page that is loaded from now on, before those of the page.
    pub async fn run_first(&self, script: &str) {
        // Without this it is not run.
        self.call("Page.enable", json!({})).await;
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await;
    }

    /// The value of an expression of JavaScript.
    pub async fn eval(&self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", params).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    /// Waits until an expression of JavaScript is true.
    pub async fn until(&self, what: &str, expression: &str) {
        until(what, async || self.eval(&format!("Boolean({expression})")).await == true).await;
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.eval("window.isOld = true").await;
        self.call("Page.reload", json!({})).await;
        let params = json!({ "expression": "!window.isOld && document.readyState === 'complete'" });
        // In between there is no page to ask.
        until("the page is there again", async || {
            let answer = self.browser.exchange(Some(&self.session), "Runtime.evaluate", params.clone()).await;
            answer.is_ok_and(|answer| answer["result"]["value"] == true)
        })
        .await;
    }

    /// Presses a key that has a name: `Enter`, `Tab`, `Escape`.
    pub async fn press(&self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Tab" => (9, ""),
            "Escape" => (27, ""),
            other => panic!("no code for {other}"),
        };
        let params = |kind: &str| json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
        self.call("Input.dispatchKeyEvent", params("keyDown")).await;
        self.call("Input.dispatchKeyEvent", params("keyUp")).await;
    }

    /// Types into whatever has the focus.
    pub async fn enter(&self, text: &str) {
        self.call("Input.insertText", json!({ "text": text })).await;
    }
}
