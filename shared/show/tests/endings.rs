//! The thin path through everything: the six kinds of order on the six services, each to the end that was asked for.

use std::time::Duration;

use quadrille_show::{Kind, Shop, accounts, report::Report};

const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_order_ends_as_asked() -> anyhow::Result<()> {
    let mut shop = Shop::open("endings", 1).await?;
    let goods = shop.stock().await?;
    let placed = shop.place(&goods, Kind::BASIC).await?;
    shop.settled(&placed, PATIENCE).await?;

    let mut report = Report::default();
    accounts::check(&shop, &placed, &mut report).await?;
    assert_eq!(report.shortfalls(), Vec::<String>::new());
    let ledger = shop.outside.ledger().await?;
    let tally = shop.follower.tally();
    for order in &placed {
        let story = tally.story(&order.key());
        assert_eq!(story.end(), Some(order.kind.asked()), "{}: {}", order.kind.name(), story.told());
        let account = ledger.orders.get(&order.key()).copied().unwrap_or_default();
        assert_eq!(
            (account.charges, account.refunds),
            order.kind.plan().money,
            "{}: {}",
            order.kind.name(),
            story.told()
        );
        let confirmed = matches!(order.kind, Kind::Good | Kind::TwoLines);
        assert_eq!(story.has("OrderConfirmed"), confirmed, "{}: {}", order.kind.name(), story.told());
        if order.kind == Kind::TwoLines {
            assert_eq!(story.committed, [(goods.plenty.clone(), 5)], "both lines were set aside as one");
        }
    }
    assert!(tally.dead_letters.is_empty(), "{:?}", tally.dead_letters);
    Ok(())
}
