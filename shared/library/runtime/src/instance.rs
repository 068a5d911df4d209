//! An instance of a service: its parts, started from what publishes to what takes, and stopped the other way round.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::{Context as _, bail};
use axum::Router;
use quadrille_core::{Named as _, Policy, RecordType, Records, TopicType, is_projection};
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};
use tracing::{error, info, warn};

use crate::{
    changes::Announcer,
    commands::Commands,
    config::{self, Config, Settings},
    consumer::{Consumer, Downstream},
    context::Context,
    dead_letters::DeadLetterPublisher,
    deadline_barrier::{BrokerUptime, DeadlineBarrier},
    decode::Decoder,
    effects::Performer,
    generation, health, heard,
    heartbeat::Heartbeat,
    limits,
    migrations::Migrated,
    outside::Outside,
    position::BeyondEnds,
    progress::{self, Progress},
    prune, published,
    redrive::Redriver,
    relay::{Relay, Wake},
    resources::Resources,
    routes,
    serve::serve,
    service::Service,
    startup::{self, Found},
    store::Store,
    telemetry::Spans,
    timers,
    transaction::Transactions,
    work::WorkItem,
    worker::Worker,
};

/// How long a stop waits for effects' tries to end or to be given back.
const PERFORM: Duration = Duration::from_millis(2_000);
/// How long it then waits for the batch in hand, and after that for the outbox to empty.
const FINISH: Duration = Duration::from_millis(3_200);
/// How long it waits for the group to be left and the heartbeat to be taken back.
const LEAVE: Duration = Duration::from_millis(1_200);

/// Runs an instance until `stop`; ends within ten seconds of it.
pub(crate) async fn run<S, O, C>(
    mut service: Service<S, O, C>,
    config: Config<C>,
    stop: CancellationToken,
) -> anyhow::Result<()>
where
    S: Store,
    O: Outside<Policy = S::Policy>,
    C: Settings,
{
    check(&service, &config)?;
    let started_at = chrono::Utc::now();
    let resources = Arc::new(Resources::new(S::Policy::SERVICE, service.generation, &config)?);
    let mut others = JoinSet::new();
    let served = serve_http(&mut service, &config, &resources, &mut others)?;
    let migrations = service.migrated();
    let ready = tables_ready(&service.store, &migrations, config.history.keep, &resources);
    let Some(found) = stop.run_until_cancelled(ready).await.transpose()? else { return Ok(()) };
    let heard = heard::heard::<S::Policy>();
    let hears: BTreeSet<&str> = heard.iter().map(|heard| &*heard.record_type.topic.name).collect();
    let heartbeat = Heartbeat {
        resources: Arc::clone(&resources),
        http: served.at.to_string(),
        advertised: config::advertised(&config.http.advertise, served.at),
        hears: hears.into_iter().map(str::to_owned).collect(),
        started_at,
        consumer: Weak::new(),
        last_answer: Arc::default(),
    };
    let mut parts = Parts::start(service, config, &resources, found, served, heartbeat, others)?;
    resources.health.started();
    info!(service = resources.service, "Started");

    let unexpected = tokio::select! {
        () = stop.cancelled() => None,
        what = parts.ended() => Some(what),
    };
    resources.health.stopping();
    parts.stop().await;
    match unexpected {
        None => {
            info!(service = resources.service, "Stopped");
            Ok(())
        }
        Some(what) => {
            error!(service = resources.service, "{what}");
            bail!(what)
        }
    }
}

/// Refuses what does not go together.
fn check<S: Store, O, C: Settings>(service: &Service<S, O, C>, config: &Config<C>) -> anyhow::Result<()> {
    config::check(config)?;
    prune::check::<S>(&config.retention)?;
    generation::check::<S::Policy>(service.generation)?;
    if config.history.keep && service.generation != generation::FIRST {
        bail!(
            "history.keep is set: of a generation that takes over rows none is kept, since a history begins with an empty state"
        );
    }
    Ok(())
}

/// What an instance serves over HTTP from its beginning: health and metrics, and the service's own routes.
struct Served<P: Policy> {
    at: SocketAddr,
    /// Where there are routes: what they are told of commits.
    changes: Option<Arc<Announcer>>,
    /// What they tell the worker.
    commands: mpsc::Receiver<WorkItem<P>>,
}

fn serve_http<S: Store, O, C>(
    service: &mut Service<S, O, C>,
    config: &Config<C>,
    resources: &Arc<Resources>,
    others: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Served<S::Policy>> {
    let health = &resources.health;
    health.filling(resources.generation != generation::FIRST);
    health.error("kafka", "its topics have not been looked at yet");
    let listener = health::listen(&config.http.bind, config.instance)?;
    let at = listener.local_addr()?;
    info!(service = resources.service, instance = resources.instance, "Health and metrics on http://{at}");
    let mut router = health::router(Arc::clone(health), health::metrics()?.clone());
    let mut changes = None;
    let (queue, commands) = mpsc::channel(config.http.commands);
    if <S::Policy as Policy>::Command::EXISTS {
        health.takes_commands();
    }
    if let Some(routes) = service.routes.take() {
        let announcer = Arc::new(Announcer::new(resources.database.clone(), resources.generation));
        let context = Context {
            pool: resources.read_only(config.http.connections),
            generation: resources.generation,
            health: Arc::clone(health),
            changes: Arc::downgrade(&announcer),
            topics: heard::topics::<S::Policy>().into(),
            commands: Commands::new(queue, Arc::clone(health)),
        };
        let routes = generation::once_served(routes(context), Arc::clone(health));
        router = router.fallback_service(routes::bounded(routes, config.http.requests));
        changes = Some(announcer);
    }
    let connections = config.http.requests + limits::MORE_CONNECTIONS;
    spawn_server(others, listener, router, connections);
    Ok(Served { at, changes, commands })
}

/// Waits for the tables, and of a projection for its generation's beginning.
async fn tables_ready<S: Store>(
    store: &S,
    migrations: &[Migrated],
    keep_history: bool,
    resources: &Resources,
) -> anyhow::Result<Found> {
    let found = startup::tables_ready::<S::Policy>(resources, migrations, keep_history).await?;
    if is_projection::<S::Policy>() {
        generation::begin(resources, store, &resources.taking_over()).await?;
    }
    Ok(found)
}

/// The running parts. Whoever drops this half-way ends them as a kill does; the consumer's thread is told to end.
struct Parts {
    /// Ends what takes.
    taking: DropGuard,
    performing: AbortOnDropHandle<()>,
    consuming: Consuming,
    /// Ends the worker once the batch in hand is done.
    finishing: CancellationToken,
    working: AbortOnDropHandle<()>,
    publishing: Publishing,
    beating: AbortOnDropHandle<()>,
    spans: Spans,
    others: JoinSet<anyhow::Result<()>>,
}

impl Parts {
    fn start<S, O, C>(
        service: Service<S, O, C>,
        config: Config<C>,
        resources: &Arc<Resources>,
        Found { history, skips }: Found,
        Served { changes, commands, .. }: Served<S::Policy>,
        mut heartbeat: Heartbeat,
        mut others: JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<Self>
    where
        S: Store,
        O: Outside<Policy = S::Policy>,
    {
        let taking = CancellationToken::new();
        let ends_taking = taking.clone().drop_guard();
        let pool = &resources.pool;

        // What may be refused, before anything is started that would run on.
        let outside = match service.has_effects {
            true => Some((service.outside)(config.outside).context("the outside")?),
            false => None,
        };
        let spans = Spans::new(resources.service, &config.telemetry.otlp_endpoint)?;

        let types = heard::heard::<S::Policy>().into_iter().map(|heard| heard.record_type);
        let types = types.chain(<S::Policy as Policy>::Stated::TYPES.iter().copied());
        let topics = look_for_topics(&mut others, resources, types.collect());

        // What publishes.
        let publishing =
            Publishing::start(&mut others, resources, published::topics::<S::Policy>(), topics.clone(), &taking);
        others.spawn(part(prune::run::<S>(pool.clone(), config.retention, taking.clone())));

        // What works.
        let broker_uptime = Arc::new(BrokerUptime::default());
        let progress = Arc::<Progress>::default();
        let consumer =
            Arc::new(Consumer::new::<S::Policy>(resources, Arc::clone(&broker_uptime), Arc::clone(&progress), &taking));
        watch(&mut others, resources, &consumer, &progress, changes.clone(), &taking);
        if is_projection::<S::Policy>() {
            watch_generation(&mut others, resources, heard::topics::<S::Policy>(), &taking);
        }
        let last_answer = Arc::clone(&heartbeat.last_answer);
        heartbeat.consumer = Arc::downgrade(&consumer);
        let beating = spawn_heartbeat(heartbeat, &taking);
        let (worker, work) = mpsc::channel(config.batch.waiting);
        let (effects, timers, redriver) = <(Arc<Notify>, Arc<Notify>, Arc<Notify>)>::default();
        let transactions = Transactions {
            pool: pool.clone(),
            store: service.store,
            generation: resources.generation,
            spans: spans.clone(),
            has_effects: service.has_effects,
            tells_changes: changes.is_some(),
            history,
        };
        let worker_part = Worker {
            transactions,
            commands,
            work,
            consumer: Arc::clone(&consumer),
            config: config.batch.clone(),
            health: Arc::clone(&resources.health),
            progress,
            relay: publishing.wake.clone(),
            effects: Arc::clone(&effects),
            timers: Arc::clone(&timers),
            redriver: Arc::clone(&redriver),
            changes,
            beyond_end: BeyondEnds::default(),
        };
        let finishing = CancellationToken::new();
        let working = spawned(worker_part.run(finishing.clone()));

        // What takes: outcomes, timers, dead letters, records.
        let performing = match outside {
            Some(outside) => {
                let performer = Performer {
                    pool: pool.clone(),
                    outside,
                    config: config.effects,
                    worker: worker.clone(),
                    wake: effects,
                    last_answer,
                };
                spawned(performer.run(taking.clone()))
            }
            None => spawned(taking.clone().cancelled_owned()),
        };
        if !is_projection::<S::Policy>() {
            let plain = timers::run::<S::Policy>(pool.clone(), worker.clone(), timers, taking.clone());
            others.spawn(part(plain));
            let barrier = DeadlineBarrier::new::<S::Policy>(resources, broker_uptime, config.timers.after_return_ms);
            others.spawn(part(timers::run_deadlines(pool.clone(), worker.clone(), barrier, taking.clone())));
        }
        let decoder = Arc::new(Decoder::new::<S::Policy>(resources.registry.clone()));
        let redriver = Redriver {
            pool: pool.clone(),
            generation: resources.generation,
            decoder: Arc::clone(&decoder),
            topics: heard::heard::<S::Policy>().iter().map(|heard| heard.record_type.topic).collect(),
            worker: worker.clone(),
            wake: redriver,
            health: Arc::clone(&resources.health),
            skips: Arc::clone(&skips),
        };
        others.spawn(part(redriver.run(taking.clone())));
        let most_bytes = config.batch.waiting_bytes;
        let downstream = Downstream {
            decoder,
            worker,
            skips,
            memory: Arc::new(Semaphore::new(most_bytes)),
            most_bytes,
            tokio: tokio::runtime::Handle::current(),
        };
        let consuming = Consuming::start(consumer, downstream, topics, taking, resources.service)?;
        let taking = ends_taking;
        Ok(Self { taking, performing, consuming, finishing, working, publishing, beating, spans, others })
    }

    /// Waits for a part that ends although nobody told it to.
    async fn ended(&mut self) -> String {
        tokio::select! {
            ended = &mut self.working => format!("the worker ended: {ended:?}"),
            ended = &mut self.performing => format!("effects ended: {ended:?}"),
            _ = &mut self.consuming.polled => "the consumer ended".to_owned(),
            ended = &mut self.publishing.relaying => format!("the relay ended: {ended:?}"),
            Some(ended) = self.others.join_next() => match ended {
                Ok(Err(error)) => format!("{error:#}"),
                ended => format!("a part ended: {ended:?}"),
            },
        }
    }

    /// Stops what takes, finishes what is under way and in hand, publishes it, commits offsets and leaves.
    async fn stop(mut self) {
        drop(self.taking);
        // While the worker still takes their outcomes.
        if !self.performing.is_finished() && tokio::time::timeout(PERFORM, &mut self.performing).await.is_err() {
            warn!("Effects under way were not given back in time: their claims run out");
            self.performing.abort();
        }
        self.finishing.cancel();
        if !self.working.is_finished() && tokio::time::timeout(FINISH, &mut self.working).await.is_err() {
            warn!("The batch in hand was not committed in time: nothing of it has happened, it comes again");
            self.working.abort();
        }
        self.publishing.stop().await;
        let leaving = tokio::task::spawn_blocking(move || {
            self.consuming.leave();
            self.spans.shutdown();
        });
        let _ = tokio::time::timeout(LEAVE, async { tokio::join!(leaving, self.beating) }).await;
        self.others.abort_all();
    }
}

/// The relay, and who wakes it.
struct Publishing {
    /// Ends the relay once the outbox is empty, and at once.
    stop: CancellationToken,
    abort: CancellationToken,
    relaying: AbortOnDropHandle<()>,
    wake: Wake,
}

impl Publishing {
    fn start(
        others: &mut JoinSet<anyhow::Result<()>>,
        resources: &Arc<Resources>,
        topics: Vec<&'static str>,
        are_topics_ready: watch::Receiver<bool>,
        taking: &CancellationToken,
    ) -> Self {
        let (stop, abort, wake) = (CancellationToken::new(), CancellationToken::new(), Wake::default());
        let relay = Relay { resources: Arc::clone(resources), topics, are_topics_ready, wake: wake.clone() };
        let relaying = spawned(relay.run(stop.clone(), abort.clone()));
        others.spawn(part(wake.clone().listen(Arc::clone(resources), taking.clone())));
        others.spawn(part(DeadLetterPublisher { resources: Arc::clone(resources) }.run(taking.clone())));
        Self { stop, abort, relaying, wake }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.wake.relay.notify_one();
        if !self.relaying.is_finished() && tokio::time::timeout(FINISH, &mut self.relaying).await.is_err() {
            warn!("The outbox was not emptied in time: it is published by the next owner");
            self.abort.cancel();
            let _ = tokio::time::timeout(Duration::from_millis(300), self.relaying).await;
        }
    }
}

/// The consumer, on a thread of its own.
struct Consuming {
    consumer: Arc<Consumer>,
    poller: std::thread::JoinHandle<()>,
    /// Resolves when the poller ends, by a panic too.
    polled: oneshot::Receiver<()>,
}

impl Consuming {
    fn start<P: Policy>(
        consumer: Arc<Consumer>,
        downstream: Downstream<P>,
        mut are_topics_ready: watch::Receiver<bool>,
        taking: CancellationToken,
        service: &str,
    ) -> anyhow::Result<Self> {
        let (polling, polled) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("{service}-consumer"));
        let poller = thread.spawn({
            let consumer = Arc::clone(&consumer);
            move || {
                let ready = taking.run_until_cancelled(are_topics_ready.wait_for(|ready| *ready));
                if downstream.tokio.block_on(async { matches!(ready.await, Some(Ok(_))) }) {
                    consumer.run(&downstream, &taking);
                }
                drop(polling);
            }
        })?;
        Ok(Self { consumer, poller, polled })
    }

    /// Blocks until offsets are committed and the group is left.
    fn leave(self) {
        let _ = self.poller.join();
        self.consumer.commit();
        // The last one that holds the consumer leaves the group.
        drop(self.consumer);
    }
}

// Functions that know no policy are compiled once, here, with all that they start: what a generic function starts is compiled with each service.

fn spawn_server(others: &mut JoinSet<anyhow::Result<()>>, listener: TcpListener, router: Router, connections: usize) {
    others.spawn(part(serve(listener, router, connections)));
}

fn spawn_heartbeat(heartbeat: Heartbeat, taking: &CancellationToken) -> AbortOnDropHandle<()> {
    spawned(heartbeat.run(taking.clone()))
}

/// Looks for topics and schemas, and tells when the topics are there: until then nothing is read or published.
fn look_for_topics(
    others: &mut JoinSet<anyhow::Result<()>>,
    resources: &Arc<Resources>,
    types: Vec<RecordType>,
) -> watch::Receiver<bool> {
    let (are_topics_ready, topics) = watch::channel(false);
    let resources = Arc::clone(resources);
    others.spawn(async move {
        startup::topics_ready(&resources, &types).await?;
        are_topics_ready.send_replace(true);
        // What tells operators is not waited for: the relay says so where it cannot be published.
        startup::registry_ready(&resources, &types).await?;
        std::future::pending().await
    });
    topics
}

/// What looks at the others, and tells.
fn watch(
    others: &mut JoinSet<anyhow::Result<()>>,
    resources: &Arc<Resources>,
    consumer: &Arc<Consumer>,
    progress: &Arc<Progress>,
    changes: Option<Arc<Announcer>>,
    taking: &CancellationToken,
) {
    let watch = progress::watch(Arc::clone(resources), Arc::clone(consumer), Arc::clone(progress), taking.clone());
    others.spawn(part(watch));
    others.spawn(part(progress::try_database(Arc::clone(resources), taking.clone())));
    if let Some(changes) = changes {
        others.spawn(part(changes.run(taking.clone())));
    }
}

fn watch_generation(
    others: &mut JoinSet<anyhow::Result<()>>,
    resources: &Arc<Resources>,
    topics: Vec<&'static TopicType>,
    taking: &CancellationToken,
) {
    let watch = generation::watch(Arc::clone(resources), topics, taking.clone());
    others.spawn(async move {
        watch.await?;
        std::future::pending().await
    });
}

fn spawned(run: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(run))
}

/// A part that ends because it was told to is no news: only an early end is, and panics are.
async fn part(run: impl Future<Output = ()>) -> anyhow::Result<()> {
    run.await;
    std::future::pending().await
}
