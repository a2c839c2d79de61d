use proptest::prelude::*;

use super::*;

fn limit(rate: u64, burst: Option<u32>) -> RateLimit {
    RateLimit { rate: rate.try_into().unwrap(), burst: burst.map(|bytes| bytes.try_into().unwrap()) }
}

fn bucket(rate: u64, burst: Option<u32>) -> TokenBucket {
    TokenBucket::of(&limit(rate, burst), Mtu::ETHERNET)
}

#[test]
fn a_limit_is_a_bucket_with_a_queue_of_a_twentieth_of_a_second() {
    let asked = bucket(100_000_000, Some(200_000));
    assert_eq!(asked, TokenBucket { rate: 12_500_000, burst: 200_000, limit: 625_000 });
    assert_eq!(asked.to_string(), "rate 12500000bps burst 200000b limit 625000b");
}

#[test]
fn no_burst_is_so_small_that_a_frame_never_passes() {
    for rate in [1, 8, 1000, 1_000_000] {
        assert_eq!(bucket(rate, Some(1)).burst, 1518);
        assert_eq!(TokenBucket::of(&limit(rate, Some(1)), Mtu::new(9000).unwrap()).burst, 9018);
    }
}

#[test]
fn no_burst_is_so_small_that_a_late_timer_costs_the_rate() {
    assert_eq!(bucket(10_000_000_000, Some(10_000)).burst, 5_000_000);
}

#[test]
fn the_queue_has_room_for_the_largest_packet_at_every_rate() {
    for rate in [1, 1000, 10_000_000] {
        let TokenBucket { burst, limit, .. } = bucket(rate, None);
        assert!(burst >= 70_000 && limit >= 70_000, "{rate}: {burst} {limit}");
    }
}

#[test]
fn a_burst_that_lasts_longer_than_the_kernel_can_show_is_cut_as_the_kernel_cuts_it() {
    // 4 GiB at a byte a second: 4294967295 s are 67108863984375000 ticks.
    let slowest = TokenBucket { rate: 1, burst: u32::MAX, limit: 1 };
    assert_eq!(u64::from(slowest.ticks()), 67_108_863_984_375_000 & u64::from(u32::MAX));
}

proptest! {
    #[test]
    fn every_limit_is_a_bucket_that_lasts_as_long_as_its_burst(
        rate in 1..=1_000_000_000_000_000_u64,
        burst in prop::option::of(1..=u32::MAX),
        mtu in 1280..=65535_u32,
    ) {
        let bucket = TokenBucket::of(&limit(rate, burst), Mtu::new(mtu).unwrap());
        prop_assert!(bucket.rate >= rate / 8 && bucket.burst >= mtu && bucket.limit >= mtu);
        let exact = u128::from(bucket.burst) * 1_000_000_000 / u128::from(bucket.rate) / 64;
        if exact < u128::from(u32::MAX) {
            // The kernel's multiplier has 31 to 32 bits.
            let (ticks, slack) = (u128::from(bucket.ticks()), exact / (1 << 30) + 1);
            prop_assert!(ticks <= exact && ticks + slack >= exact, "{ticks} {exact}");
        }
    }
}
