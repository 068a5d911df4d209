//! Which readings count.

use meters_events::{ConsumptionMeasured, ReadingRefused, ReadingSubmitted};
use meters_readings::Readings;
use quadrille_testkit::given;
use uuid::Uuid;

const READING: Uuid = Uuid::from_u128(1);

fn reading(watt_hours: i64) -> ReadingSubmitted {
    ReadingSubmitted::new("E-1001".into(), READING, watt_hours)
}

#[test]
fn what_was_used_is_the_difference_to_the_last_reading_that_counts() {
    let refused = ReadingRefused::new("E-1001".into(), READING);
    given::<Readings>()
        .heard(reading(1_500))
        .then_states([ConsumptionMeasured::new("E-1001".into(), READING, 1_500, 1_500)])
        .heard(reading(1_499))
        .then_states([ReadingRefused { reason: "below_the_last".into(), ..refused }])
        .heard(reading(1_800))
        .then_states([ConsumptionMeasured::new("E-1001".into(), READING, 1_800, 300)]);
}
