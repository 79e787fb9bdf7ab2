import Martlet
import Testing

struct BrokerClockTests {
    @Test func learnsTheOffsetFromAcknowledgements() {
        for ahead in [-60_000, -250, 0, 3, 1_000, 86_400_000] as [Int64] {
            var (clock, generator) = (BrokerClock(), SeededGenerator(seed: 1))
            var now: Int64 = 1_000_000
            for _ in 0..<50 {
                let (out, back) = (Int64.random(in: 0...20, using: &generator), Int64.random(in: 0...2_000, using: &generator))
                clock.acknowledged(appended: now + out + ahead, sent: now, acknowledged: now + out + back)
                now += out + back
            }
            #expect(abs(clock.aheadMilliseconds - ahead) <= 100)
        }
    }

    /// An answer that took half a minute says little, and must not move the estimate by more than it says.
    @Test func aSlowAnswerSaysLittle() {
        var clock = BrokerClock()
        clock.acknowledged(appended: 1_000, sent: 1_200, acknowledged: 35_000)
        #expect(clock.aheadMilliseconds == -199)
    }

    @Test func followsAStep() {
        var clock = BrokerClock()
        clock.acknowledged(appended: 1_000, sent: 999, acknowledged: 1_003)
        #expect(clock.aheadMilliseconds == 0)
        clock.acknowledged(appended: 2_000, sent: 7_000, acknowledged: 7_004)
        #expect((-5_004 ... -4_999).contains(clock.aheadMilliseconds))
    }
}
