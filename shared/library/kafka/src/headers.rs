//! A message's headers, whatever a stranger calls them.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::Once,
};

use rdkafka::{
    Message,
    message::{BorrowedMessage, Headers},
};

thread_local! {
    /// A panic on this thread says nothing: it is looked for.
    static LOOKED_FOR: Cell<bool> = const { Cell::new(false) };
}

/// What `read` makes of a message's headers, by name and value in their order; none where a name is not UTF-8: the client panics at such a
/// one.
pub fn headers<'a, T>(
    message: &'a BorrowedMessage<'_>,
    read: impl FnOnce(&mut dyn Iterator<Item = (&'a str, Option<&'a [u8]>)>) -> T,
) -> Option<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let say = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !LOOKED_FOR.get() {
                say(info);
            }
        }));
    });
    LOOKED_FOR.set(true);
    let found = catch_unwind(AssertUnwindSafe(|| {
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        read(&mut headers.map(|header| (header.key, header.value)))
    }));
    LOOKED_FOR.set(false);
    found.ok()
}
