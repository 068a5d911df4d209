//! An instance of a service: its parts, started from what publishes to what takes, and stopped the other way round.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use quadrille_core::{Named as _, Policy, RecordType, Records, is_projection};
use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
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
    outside::Outside,
    position::BeyondEnds,
    progress::{self, Progress},
    prune, published,
    redrive::Redriver,
    relay::{Relay, Wake},
    resources::{self, Resources},
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
    config::check(&config)?;
    prune::check::<S>(&config.retention)?;
    generation::check::<S::Policy>(service.generation)?;
    if config.history.keep && service.generation != generation::FIRST {
        bail!(
            "history.keep is set: of a generation that takes over rows none is kept, since a history begins with an empty state"
        );
    }
    let started_at = chrono::Utc::now();
    let resources = Arc::new(Resources::new(S::Policy::SERVICE, service.generation, &config)?);
    resources.health.filling(resources.generation != generation::FIRST);
    let listener = health::listen(&config.http.bind, config.instance).await?;
    let http = listener.local_addr()?;
    info!(service = resources.service, instance = resources.instance, "Health and metrics on http://{http}");
    let mut router = health::router(Arc::clone(&resources.health), health::metrics()?.clone());
    let mut changes = None;
    let (queue, commands) = mpsc::channel(config.http.commands);
    if <S::Policy as Policy>::Command::EXISTS {
        resources.health.takes_commands();
    }
    if let Some(routes) = service.routes.take() {
        let announcer = Arc::new(Announcer::new(resources.database.clone(), resources.generation));
        let context = Context {
            pool: resources::read_only(resources.generation, &config)?,
            generation: resources.generation,
            health: Arc::clone(&resources.health),
            changes: Arc::clone(&announcer),
            topics: heard::topics::<S::Policy>().into(),
            commands: Commands::new(queue, Arc::clone(&resources.health)),
        };
        let routes = generation::once_served(routes(context), Arc::clone(&resources.health));
        router = router.fallback_service(routes::bounded(routes, config.http.requests));
        changes = Some(announcer);
    }
    let mut others = JoinSet::new();
    others.spawn(part(serve(listener, router)));

    let heard = heard::heard::<S::Policy>();
    let types = heard.iter().map(|heard| &heard.record_type).chain(<S::Policy as Policy>::Stated::TYPES);
    let types: Vec<RecordType> = types.copied().collect();
    let migrations = service.migrated();
    resources.health.error("kafka", "its topics have not been looked at yet");
    let ready = startup::tables_ready::<S::Policy>(&resources, &migrations, config.history.keep);
    let Some(found) = stop.run_until_cancelled(ready).await.transpose()? else { return Ok(()) };
    if is_projection::<S::Policy>() {
        let database = resources::taking_over(resources.generation, &config)?;
        let begun = generation::begin(&resources, &service.store, &database);
        let Some(()) = stop.run_until_cancelled(begun).await.transpose()? else { return Ok(()) };
    }
    let (topics_are_ready, topics) = watch::channel(false);
    others.spawn({
        let (resources, types) = (Arc::clone(&resources), types.clone());
        async move {
            startup::topics_ready(&resources, &types).await?;
            topics_are_ready.send_replace(true);
            // What tells operators is not waited for: the relay says so where it cannot be published.
            startup::registry_ready(&resources, &types).await?;
            std::future::pending().await
        }
    });
    let hears: BTreeSet<&str> = heard.iter().map(|heard| &*heard.record_type.topic.name).collect();
    let heartbeat = Heartbeat {
        resources: Arc::clone(&resources),
        http: http.to_string(),
        advertised: config::advertised(&config.http.advertise, http),
        hears: hears.into_iter().map(str::to_owned).collect(),
        started_at,
        consumer: Weak::new(),
        last_answer: Arc::default(),
    };
    let mut parts = Parts::start(service, config, &resources, found, topics, heartbeat, changes, commands, others)?;
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

/// The running parts.
struct Parts {
    /// Ends what takes.
    taking: CancellationToken,
    performing: JoinHandle<()>,
    consumer: Arc<Consumer>,
    polling_stopped: Arc<AtomicBool>,
    poller: std::thread::JoinHandle<()>,
    /// Resolves when the poller ends, by a panic too.
    polled: oneshot::Receiver<()>,
    /// Ends the worker once the batch in hand is done.
    finishing: CancellationToken,
    working: JoinHandle<()>,
    /// Ends the relay once the outbox is empty, and at once.
    publishing: CancellationToken,
    abort: CancellationToken,
    relaying: JoinHandle<()>,
    relay_wake: Arc<Notify>,
    beating: JoinHandle<()>,
    spans: Spans,
    others: JoinSet<anyhow::Result<()>>,
}

impl Parts {
    #[expect(clippy::too_many_arguments, reason = "what was made before it stands together nowhere else")]
    fn start<S, O, C>(
        service: Service<S, O, C>,
        config: Config<C>,
        resources: &Arc<Resources>,
        Found { history, skips }: Found,
        topics: watch::Receiver<bool>,
        mut heartbeat: Heartbeat,
        changes: Option<Arc<Announcer>>,
        commands: mpsc::Receiver<WorkItem<S::Policy>>,
        mut others: JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<Self>
    where
        S: Store,
        O: Outside<Policy = S::Policy>,
    {
        let taking = CancellationToken::new();
        if is_projection::<S::Policy>() {
            let topics = heard::topics::<S::Policy>();
            let watch = generation::watch(Arc::clone(resources), topics, taking.clone());
            others.spawn(async move {
                watch.await?;
                std::future::pending().await
            });
        }

        // What publishes.
        let (publishing, abort) = (CancellationToken::new(), CancellationToken::new());
        let (relay_wake, owner) = <(Arc<Notify>, Arc<AtomicBool>)>::default();
        let relay = Relay {
            resources: Arc::clone(resources),
            topics: published::topics::<S::Policy>(),
            are_topics_ready: topics.clone(),
            wake: Arc::clone(&relay_wake),
            owner: Arc::clone(&owner),
        };
        let wake =
            Wake { resources: Arc::clone(resources), owner, local: Arc::clone(&relay_wake), others: Arc::default() };
        others.spawn(part(wake.clone().listen(taking.clone())));
        let relaying = tokio::spawn(relay.run(publishing.clone(), abort.clone()));
        if let Some(changes) = &changes {
            others.spawn(part(Arc::clone(changes).run(taking.clone())));
        }
        others.spawn(part(DeadLetterPublisher { resources: Arc::clone(resources) }.run(taking.clone())));
        others.spawn(part(prune::run::<S>(resources.pool.clone(), config.retention, taking.clone())));

        // What works.
        let broker_uptime = Arc::new(BrokerUptime::default());
        let progress = Arc::<Progress>::default();
        let consumer = Arc::new(Consumer::new::<S::Policy>(
            resources,
            Arc::clone(&broker_uptime),
            Arc::clone(&progress),
            &taking,
        )?);
        let last_answer = Arc::clone(&heartbeat.last_answer);
        heartbeat.consumer = Arc::downgrade(&consumer);
        let beating = tokio::spawn(heartbeat.run(taking.clone()));
        let watch =
            progress::watch(Arc::clone(resources), Arc::clone(&consumer), Arc::clone(&progress), taking.clone());
        others.spawn(part(watch));
        others.spawn(part(progress::try_database(Arc::clone(resources), taking.clone())));
        let (worker, work) = mpsc::channel(config.batch.waiting);
        let (effects, timers, redriver) = <(Arc<Notify>, Arc<Notify>, Arc<Notify>)>::default();
        let spans = Spans::new(resources.service, &config.telemetry.otlp_endpoint)?;
        let transactions = Transactions {
            pool: resources.pool.clone(),
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
            relay: wake,
            effects: Arc::clone(&effects),
            timers: Arc::clone(&timers),
            redriver: Arc::clone(&redriver),
            changes,
            beyond_end: BeyondEnds::default(),
        };
        let finishing = CancellationToken::new();
        let working = tokio::spawn(worker_part.run(finishing.clone()));

        // What takes: outcomes, timers, records.
        let performing = if service.has_effects {
            let performer = Performer {
                pool: resources.pool.clone(),
                outside: (service.outside)(config.outside).context("the outside")?,
                config: config.effects,
                worker: worker.clone(),
                wake: effects,
                last_answer,
            };
            tokio::spawn(performer.run(taking.clone()))
        } else {
            let told = taking.clone();
            tokio::spawn(async move { told.cancelled().await })
        };
        if !is_projection::<S::Policy>() {
            others.spawn(part(timers::run::<S::Policy>(
                resources.pool.clone(),
                worker.clone(),
                timers,
                taking.clone(),
            )));
            let barrier = DeadlineBarrier::new::<S::Policy>(resources, broker_uptime, config.timers.after_return_ms);
            others.spawn(part(timers::run_deadlines(resources.pool.clone(), worker.clone(), barrier, taking.clone())));
        }
        let decoder = Arc::new(Decoder::new::<S::Policy>(resources.registry.clone()));
        let redriver = Redriver {
            pool: resources.pool.clone(),
            generation: resources.generation,
            decoder: Arc::clone(&decoder),
            topics: heard::heard::<S::Policy>().iter().map(|heard| heard.record_type.topic).collect(),
            worker: worker.clone(),
            wake: redriver,
            health: Arc::clone(&resources.health),
            skips: Arc::clone(&skips),
        };
        others.spawn(part(redriver.run(taking.clone())));
        let (polling, polled) = oneshot::channel();
        let polling_stopped = Arc::new(AtomicBool::default());
        let poller = {
            let (consumer, stopped) = (Arc::clone(&consumer), Arc::clone(&polling_stopped));
            let most_bytes = config.batch.waiting_bytes;
            let downstream = Downstream {
                decoder,
                worker,
                skips,
                memory: Arc::new(Semaphore::new(most_bytes)),
                most_bytes,
                tokio: tokio::runtime::Handle::current(),
            };
            let thread = std::thread::Builder::new().name(format!("{}-consumer", resources.service));
            let (mut topics, taking) = (topics, taking.clone());
            thread.spawn(move || {
                let ready = taking.run_until_cancelled(topics.wait_for(|ready| *ready));
                if downstream.tokio.block_on(async { matches!(ready.await, Some(Ok(_))) }) {
                    consumer.run(&downstream, &stopped);
                }
                drop(polling);
            })?
        };
        Ok(Self {
            taking,
            performing,
            consumer,
            polling_stopped,
            poller,
            polled,
            finishing,
            working,
            publishing,
            abort,
            relaying,
            relay_wake,
            beating,
            spans,
            others,
        })
    }

    /// Waits for a part that ends although nobody told it to.
    async fn ended(&mut self) -> String {
        tokio::select! {
            ended = &mut self.working => format!("the worker ended: {ended:?}"),
            ended = &mut self.performing => format!("effects ended: {ended:?}"),
            _ = &mut self.polled => "the consumer ended".to_owned(),
            ended = &mut self.relaying => format!("the relay ended: {ended:?}"),
            Some(ended) = self.others.join_next() => match ended {
                Ok(Err(error)) => format!("{error:#}"),
                ended => format!("a part ended: {ended:?}"),
            },
        }
    }

    /// Stops what takes, finishes what is under way and in hand, publishes it, commits offsets and leaves.
    async fn stop(mut self) {
        self.taking.cancel();
        self.polling_stopped.store(true, Ordering::Relaxed);
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
        self.publishing.cancel();
        self.relay_wake.notify_one();
        if !self.relaying.is_finished() && tokio::time::timeout(FINISH, &mut self.relaying).await.is_err() {
            warn!("The outbox was not emptied in time: it is published by the next owner");
            self.abort.cancel();
            let _ = tokio::time::timeout(Duration::from_millis(300), self.relaying).await;
        }
        let leaving = tokio::task::spawn_blocking(move || {
            let _ = self.poller.join();
            self.consumer.commit();
            // The last one that holds the consumer leaves the group.
            drop(self.consumer);
            self.spans.shutdown();
        });
        let _ = tokio::time::timeout(LEAVE, async { tokio::join!(leaving, self.beating) }).await;
        self.others.abort_all();
    }
}

/// A part that ends because it was told to is no news: only an early end is, and panics are.
async fn part(run: impl Future<Output = ()>) -> anyhow::Result<()> {
    run.await;
    std::future::pending().await
}
