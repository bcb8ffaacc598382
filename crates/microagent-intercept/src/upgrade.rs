//! Connections that became ones of WebSocket.

use crate::interceptor::Place;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::io::copy_bidirectional;

/// Passes bytes both ways until both ends have no more, or one is gone. What they mean is not looked at.
pub(crate) async fn pass(guest: OnUpgrade, server: OnUpgrade, place: Arc<Place>) {
    // Either fails where its connection ended instead, and takes the other with it.
    if let (Ok(guest), Ok(server)) = tokio::join!(guest, server) {
        let (mut guest, mut server) = (TokioIo::new(guest), TokioIo::new(server));
        // That one of them is gone is nothing that anybody could be told.
        let _ = copy_bidirectional(&mut guest, &mut server).await;
    }
    drop(place);
}
