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
}
