//! One moving line on a terminal, for what takes long enough to be wondered about.

use super::Display;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long something may take before it is shown: a warm run is over by then, and a flash of text would only disturb.
const PATIENCE: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(100);

const SPINNER: &str = "{spinner} {msg}";
const RECEIVED: &str = "{spinner} {msg}  {bytes}  {bytes_per_sec}";
const BAR: &str = "{spinner} {msg}  {bar:24}  {bytes} of {total_bytes}  {bytes_per_sec}";

/// The bar is hidden until a thread of its own has waited out the patience; dropping `end` tells that thread to leave it so.
pub(super) struct Animated {
    bar: ProgressBar,
    template: &'static str,
    reveal: Option<Reveal>,
}

struct Reveal {
    end: Sender<()>,
    thread: JoinHandle<()>,
}

impl Animated {
    pub(super) fn new() -> Animated {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let mut animated = Animated { bar, template: "", reveal: None };
        animated.shape(SPINNER);
        animated
    }

    /// Changes the line's shape. Templates are constants that parse; a test holds them to it.
    fn shape(&mut self, template: &'static str) {
        if self.template != template
            && let Ok(style) = ProgressStyle::with_template(template)
        {
            self.template = template;
            self.bar.set_style(style);
        }
    }
}

fn reveal_later(bar: &ProgressBar, ended: &Receiver<()>) {
    if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.enable_steady_tick(TICK);
    }
}

impl Display for Animated {
    fn phase(&mut self, text: &str) {
        self.shape(SPINNER);
        self.bar.set_position(0);
        self.bar.set_message(text.to_owned());
        if self.reveal.is_none() {
            let (end, ended) = channel();
            let bar = self.bar.clone();
            let thread = std::thread::spawn(move || reveal_later(&bar, &ended));
            self.reveal = Some(Reveal { end, thread });
        }
    }

    fn bytes(&mut self, done: u64, total: Option<u64>) {
        self.shape(if total.is_some() { BAR } else { RECEIVED });
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    fn end(&mut self) {
        let Some(Reveal { end, thread }) = self.reveal.take() else { return };
        drop(end);
        // It ends at once, and must have before the line is cleared, or it could draw it again.
        let _ = thread.join();
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_parses() {
        for template in [SPINNER, RECEIVED, BAR] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn what_is_quick_is_never_shown() {
        let mut display = Animated::new();
        display.phase("booting");
        display.end();
        assert!(display.bar.is_hidden());
    }
}
