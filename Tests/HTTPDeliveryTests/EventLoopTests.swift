import EventLoop
import Testing

@Suite struct EventLoopTests {
    /// A turn takes 256: who is told that there may be more waits no longer for what is new.
    @Test(arguments: [(255, false), (256, true), (300, true)])
    func saysWhenMoreMayBeReady(_ ready: Int, _ hasMore: Bool) {
        let loop = EventLoop()
        let wakeUps = (0..<ready).map { _ in WakeUp() }
        for (number, wakeUp) in wakeUps.enumerated() {
            wakeUp.signal()
            loop.watch(wakeUp.descriptor, for: .readable, token: UInt64(number))
        }
        withExtendedLifetime(wakeUps) {
            var seen: Set<UInt64> = []
            let isFull = loop.wait(milliseconds: 0) { seen.insert($0.token) }
            #expect(isFull == hasMore)
            #expect(seen.count == min(ready, 256))
            loop.wait(milliseconds: 0) { seen.insert($0.token) }
            #expect(seen.count == ready)
        }
    }

    /// Of two inboxes: once for what they had before they were watched, and once each time that one isn't empty any more, whether or not anything was
    /// taken out in between.
    @Test func anInboxWakesOncePerTimeThatItIsNotEmptyAnyMore() {
        let loop = EventLoop()
        let (first, second) = (Inbox<Int>(), Inbox<Int>())
        first.send(1)
        loop.watch(first, token: 1)
        loop.watch(second, token: 2)
        func woken() -> [UInt64] {
            var tokens: [UInt64] = []
            loop.wait(milliseconds: 0) { tokens.append($0.token) }
            return tokens.sorted()
        }
        #expect(woken() == [1])
        #expect(woken() == [])
        first.send(2)
        #expect(woken() == [])
        #expect(first.drain() == [1, 2] && first.drain() == [])
        #expect(woken() == [])
        first.send(3)
        second.send(4)
        second.send(5)
        #expect(woken() == [1, 2])
        #expect(first.drain() == [3] && second.drain() == [4, 5])
        #expect(woken() == [])
    }
}
