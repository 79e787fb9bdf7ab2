import HTTPDelivery
import Testing

@testable import Martlet
@testable import MartletWorker

/// Records that a lane keeps, and memory that one leaves to the next.
struct LaneItemsTests {
    private static func keep(_ items: inout LaneItems, slot: UInt32, generation: UInt32, id: String, body: [UInt8], waits: Bool = false)
        -> RecordToken
    {
        let item = items.empty()
        item.headers.eventID = id
        let token = RecordToken(slot: slot, generation: generation)
        item.begin(token, CopiedBody(body), waits: waits)
        items.keep(item)
        return token
    }

    @Test(arguments: [0, 1, 2_048, 2_049, 100_000]) func aBodyIsTheRecordsWhetherCopiedOrNot(count: Int) {
        let body = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
        for waits in [false, true] {
            var items = LaneItems()
            for turn in UInt32(1)...3 {
                let token = Self.keep(&items, slot: 0, generation: turn, id: "e", body: body, waits: waits)
                #expect(items[token].map { Array($0.bytes) } == body)
                items.release(token)
                #expect(items[token] == nil)
            }
        }
    }

    @Test func nothingOfARecordIsLeftToTheNext() throws {
        var items = LaneItems()
        let first = Self.keep(&items, slot: 3, generation: 1, id: "one", body: Array("a long body".utf8))
        func use() throws -> (ObjectIdentifier, id: [UInt8]) {
            let item = try #require(items[first])
            (item.bearer, item.url, item.startedWall, item.producedWall) = ("token", "https://example.com", 5, 6)
            item.lastResult = HTTPResult(token: first.bits, status: 503)
            return (ObjectIdentifier(item), item.messageID)
        }
        let (used, id) = try use()
        items.release(first)
        let second = Self.keep(&items, slot: 3, generation: 2, id: "two", body: Array("short".utf8))
        let item = try #require(items[second])
        #expect(items[first] == nil && ObjectIdentifier(item) == used)
        #expect(Array(item.bytes) == Array("short".utf8) && item.messageID != id && item.headers.eventID == "two")
        #expect(item.bearer == nil && item.url == "" && item.lastResult == nil && item.startedWall == 0 && item.producedWall == 0)
    }

    @Test func memoryIsUsedAgain() throws {
        var items = LaneItems()
        let first = Self.keep(&items, slot: 0, generation: 1, id: "one", body: Array("a body".utf8))
        let before = items[first].map { (ObjectIdentifier($0), $0.bytes.baseAddress) }
        items.release(first)
        let second = Self.keep(&items, slot: 7, generation: 1, id: "two", body: Array("another".utf8.prefix(6)))
        #expect(try #require(before?.0) == items[second].map { ObjectIdentifier($0) })
        #expect(try #require(before?.1) == items[second]?.bytes.baseAddress)
    }

    @Test func memoryOfAnUnusualRecordIsNotKept() throws {
        var items = LaneItems()
        let long = String(repeating: "x", count: 100_000)
        let first = Self.keep(&items, slot: 0, generation: 1, id: long, body: Array(long.utf8), waits: true)
        items.release(first)
        let item = items.empty()
        #expect(item.headers.texts.reservedBytes <= 2_048 && item.bytes.baseAddress == nil && item.headers.eventID == "")
    }

    @Test func whatIsStillBeingSentIsNotWrittenOver() throws {
        var items = LaneItems()
        let first = Self.keep(&items, slot: 0, generation: 1, id: "one", body: Array("on its way".utf8))
        // As the transport does.
        let sending: any BodyBytes = try #require(items[first])
        items.release(first)
        let second = Self.keep(&items, slot: 0, generation: 2, id: "two", body: Array("another one".utf8))
        #expect(items[second] !== sending)
        #expect(Array(sending.bytes) == Array("on its way".utf8))
    }
}
