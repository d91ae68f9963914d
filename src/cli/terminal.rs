//! The terminal's own echo: a `^C` at the end of the bar moves the cursor to the next line, and the bar stays where it
//! was.

/// The terminal shows no `^C` for as long as this lives.
#[derive(Debug)]
pub(super) struct QuietKeys {
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
}

#[cfg(unix)]
mod echo {
    use rustix::process::getpgrp;
    use rustix::stdio::stderr;
    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

    use super::QuietKeys;

    /// A program in the background that changes the terminal is stopped.
    fn is_ours() -> bool {
        tcgetpgrp(stderr()).is_ok_and(|foreground| foreground == getpgrp())
    }

    fn set(modes: &Termios) -> bool {
        is_ours() && tcsetattr(stderr(), OptionalActions::Now, modes).is_ok()
    }

    impl QuietKeys {
        /// Does nothing where standard error is no terminal.
        pub(in crate::cli) fn start() -> Self {
            let before = tcgetattr(stderr()).ok().filter(|before| {
                let mut quiet = before.clone();
                quiet.local_modes.remove(LocalModes::ECHOCTL);
                set(&quiet)
            });
            Self { before }
        }
    }

    impl Drop for QuietKeys {
        fn drop(&mut self) {
            if let Some(before) = &self.before {
                set(before);
            }
        }
    }
}

#[cfg(not(unix))]
impl QuietKeys {
    pub(super) fn start() -> Self {
        Self {}
    }
}
