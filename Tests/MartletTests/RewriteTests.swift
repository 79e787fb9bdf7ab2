import Martlet
import Testing

struct RewriteTests {
    /// A delivery to an endpoint that never answers, deferred until it expires: how often it is written.
    @Test func aDeliveryIsRewrittenABoundedNumberOfTimes() {
        let week: Int64 = 7 * 86_400_000
        var (age, deferrals, writes): (Int64, Int, Int) = (5_000, 0, 0)
        while age < week {
            deferrals += 1
            let due = min(week, age + RetryTier.roundUp(RetryTier.defaults, milliseconds: age / 4))
            // A hop is looked at a little late, as in life.
            while age < due, let tier = RetryTier.choose(RetryTier.defaults, remainingMilliseconds: due - age) {
                age += tier.delayMilliseconds + 50
                writes += 1
                if due - age < 5_000 { age = max(age, due) }
            }
        }
        #expect(deferrals <= RetryTier.deferralLimit && writes <= RetryTier.rewriteLimit, "\(deferrals) deferrals, \(writes) writes")
    }
}
