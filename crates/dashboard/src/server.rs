//! The shell: a listener of its own, connections within limits, and the pages behind it.

use core::convert::Infallible;
use core::future::ready;
use core::pin::{Pin, pin};
use core::time::Duration;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use adit_net::{Accepted, BindError, Bound, Clock, Draining, Limits, Listener, Shutdown, background_runtime};
use adit_units::Monotonic;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use crate::hosts::Hosts;
use crate::{Answer, Request};

/// Connections at a time.
const CONNECTIONS_MAX: usize = 128;
/// Connections from one address at a time; a page that a browser shows opens six.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// Bytes of a request's line and headers.
const HEAD_MAX: usize = 16 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a request's line and headers may take, counted from the moment the connection is free for them: also how long a connection may idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(20);
/// After this time a connection ends with the answer to its next request.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// After this time a connection ends, whatever happens on it; only who reads slowly or not at all gets so far.
const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(120);
/// How long answers under way may take when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// What is served. Pure: what it knows changes elsewhere.
pub trait Pages: Send + Sync + 'static {
    /// Gets what an answer is to be made of, where that is not at hand; called before each answer.
    fn prepare(&self, request: &Request<'_>) -> Preparation<'_> {
        let _ = request;
        Box::pin(ready(()))
    }

    /// What is said to a request.
    fn answer(&self, request: &Request<'_>) -> Answer;
}

/// What has to happen before an answer.
pub type Preparation<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// How to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where to listen. There is no authentication: off loopback, whoever reaches the address reads all.
    pub listen: SocketAddr,
    /// Names under which the server may be asked, apart from addresses and names that only a local network gives.
    pub hosts: Vec<String>,
}

/// On loopback, at port 4080.
impl Default for ServerConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4080)), hosts: Vec::new() }
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system gives no threads.
    #[error("cannot start the threads that serve the dashboard: {0}")]
    Threads(#[source] io::Error),
}

/// A server that runs; dropping it ends it at once.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    /// Taken when dropped.
    runtime: Option<Runtime>,
}

impl Server {
    /// Starts to serve, on threads of its own.
    ///
    /// # Errors
    ///
    /// If the address is taken, or the system gives no threads.
    pub fn start(config: &ServerConfig, pages: Arc<dyn Pages>) -> Result<Self, ServerError> {
        let bound = Bound::new(config.listen)?;
        let runtime = background_runtime("dashboard").map_err(ServerError::Threads)?;
        let listener = {
            let _inside = runtime.enter();
            bound.listen(limits())?
        };
        let address = listener.address();
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "the dashboard asks for no password; whoever reaches this address reads it");
        }
        let (shutdown, draining) = Shutdown::new();
        let site = Arc::new(Site { pages, hosts: Hosts::new(&config.hosts) });
        runtime.spawn(accept(draining, listener, site));
        Ok(Self { address, shutdown, runtime: Some(runtime) })
    }

    /// The address, with the port that was taken.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening and lets answers under way go out.
    pub async fn shutdown(self) {
        self.shutdown.begin();
        self.shutdown.finished().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Nobody is set up in a longer way than by connecting, so newcomers are as many as connections.
const fn limits() -> Limits {
    Limits {
        connections: CONNECTIONS_MAX,
        connections_per_address: CONNECTIONS_PER_ADDRESS_MAX,
        newcomers: CONNECTIONS_MAX,
        newcomers_per_address: CONNECTIONS_PER_ADDRESS_MAX,
    }
}

/// What all connections share.
struct Site {
    pages: Arc<dyn Pages>,
    hosts: Hosts,
}

/// `draining` comes first and so is dropped last: whoever waits for the end finds the address free.
async fn accept(mut draining: Draining, mut listener: Listener, site: Arc<Site>) {
    loop {
        let accepted = tokio::select! {
            () = draining.begun() => return,
            accepted = listener.accept() => accepted,
        };
        tokio::spawn(serve(accepted, Arc::clone(&site), draining.clone()));
    }
}

async fn serve(accepted: Accepted, site: Arc<Site>, mut draining: Draining) {
    let Accepted { stream, peer, at, permit } = accepted;
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (site, (head, _)) = (Arc::clone(&site), request.into_parts());
        async move { Ok::<_, Infallible>(site.respond(&head, at).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = sleep(CONNECTION_LIFE_MAX) => Ok(()),
        () = draining.begun() => {
            connection.as_mut().graceful_shutdown();
            timeout(STOP_PATIENCE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection to the dashboard ended early");
    }
    drop(permit);
}

impl Site {
    /// Answers one request on a connection that was accepted `at` that moment.
    async fn respond(&self, head: &Parts, at: Monotonic) -> Response<Full<Bytes>> {
        let is_read = [Method::GET, Method::HEAD].contains(&head.method);
        let answer = if !is_read {
            Answer::refused(StatusCode::METHOD_NOT_ALLOWED, "everything here is only read; use GET")
        } else if !self.is_for_us(head) {
            let why = "this name is not ours; ask by address, or name it in the config (api_hosts)";
            Answer::refused(StatusCode::MISDIRECTED_REQUEST, why)
        } else {
            let request = Request { path: head.uri.path(), query: head.uri.query().unwrap_or_default() };
            self.pages.prepare(&request).await;
            self.pages.answer(&request)
        };
        let (status, content_type, body) = answer.into_parts();
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        if Clock.monotonic() - at >= CONNECTION_LIFE {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Whether every name under which the request was sent is one of ours; a request without any comes from no browser.
    fn is_for_us(&self, head: &Parts) -> bool {
        let in_headers = head.headers.get_all(HOST).iter();
        let in_line = head.uri.authority().is_none_or(|authority| self.hosts.allow(authority.as_str()));
        in_line
            && in_headers.map(HeaderValue::to_str).all(|host| host.is_ok_and(|host| self.hosts.allow(host)))
    }
}
