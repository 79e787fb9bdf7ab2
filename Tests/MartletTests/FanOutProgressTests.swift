import Martlet
import Testing

struct FanOutProgressTests {
    static let stream = StreamID(topic: 0, partition: 0)

    @Test func anEventIsDoneWhenAllItsDeliveriesAre() throws {
        var progress = FanOutProgress()
        try progress.own(Self.stream, committed: 5, metadata: "")
        let (token, from) = try must(progress.begin(Self.stream, offset: 5, endpointIDs: ["a", "b", "c"]))
        #expect(from == 0)
        progress.acknowledged(token, index: 1)
        #expect(progress.commits(onlyChanged: false) == [.init(stream: Self.stream, offset: 5, metadata: "")])
        progress.acknowledged(token, index: 0)
        #expect(progress.commits(onlyChanged: false).first?.metadata == "c1:b")
        progress.acknowledged(token, index: 2)
        #expect(progress.commits(onlyChanged: false) == [.init(stream: Self.stream, offset: 6, metadata: "")])
    }

    @Test func aSuccessorGoesOnAfterTheCursor() throws {
        var progress = FanOutProgress()
        try progress.own(Self.stream, committed: 5, metadata: "c1:b")
        #expect(progress.commits(onlyChanged: false).first?.metadata == "c1:b")
        let (token, from) = try must(progress.begin(Self.stream, offset: 5, endpointIDs: ["a", "b", "c", "d"]))
        #expect(from == 2)
        progress.acknowledged(token, index: 2)
        #expect(progress.commits(onlyChanged: false).first?.metadata == "c1:c")
        let next = try must(progress.begin(Self.stream, offset: 6, endpointIDs: ["a"]))
        #expect(next.from == 0)
    }

    @Test func lateAcknowledgementsOfAPartitionThatIsGoneAreIgnored() throws {
        var progress = FanOutProgress()
        try progress.own(Self.stream, committed: 0, metadata: "")
        let (token, _) = try must(progress.begin(Self.stream, offset: 0, endpointIDs: ["a"]))
        progress.disown([Self.stream])
        try progress.own(Self.stream, committed: 0, metadata: "")
        progress.acknowledged(token, index: 0)
        #expect(progress.commits(onlyChanged: false).first?.offset == 0)
        #expect(progress.unfinished == 0)
        _ = try must(progress.begin(Self.stream, offset: 0, endpointIDs: ["a"]))
    }

    @Test func ofManyEndpointsEachCounts() throws {
        let ids = (0..<200).map { String($0 + 1_000) }
        var progress = FanOutProgress()
        try progress.own(Self.stream, committed: 5, metadata: "c1:1069")
        let (token, from) = try must(progress.begin(Self.stream, offset: 5, endpointIDs: ids))
        #expect(from == 70)
        for index in (71..<200).reversed() { progress.acknowledged(token, index: index) }
        #expect(progress.commits(onlyChanged: false).first?.metadata == "c1:1069" && progress.unfinished == 1)
        progress.acknowledged(token, index: 70)
        #expect(progress.commits(onlyChanged: false) == [.init(stream: Self.stream, offset: 6, metadata: "")])
    }

    /// The slot of one that is done in between goes to a later one.
    @Test func eventsAreDoneInAnyOrder() throws {
        var progress = FanOutProgress()
        try progress.own(Self.stream, committed: 0, metadata: "")
        var tokens: [FanOutProgress.EventToken] = []
        for offset in 0..<3 { tokens.append(try must(progress.begin(Self.stream, offset: Int64(offset), endpointIDs: ["a", "b"])).token) }
        for index in 0..<2 { progress.acknowledged(tokens[1], index: index) }
        tokens.append(try must(progress.begin(Self.stream, offset: 3, endpointIDs: ["a", "b"])).token)
        #expect(tokens[3] == tokens[1])
        progress.acknowledged(tokens[0], index: 0)
        #expect(progress.commits(onlyChanged: false).first?.metadata.hasPrefix("c1:a") == true)
        progress.acknowledged(tokens[0], index: 1)
        #expect(progress.commits(onlyChanged: false).first?.offset == 2)
        progress.acknowledged(tokens[2], index: 0)
        #expect(progress.commits(onlyChanged: false).first?.metadata == "c1:a")
        for token in tokens[2...] { for index in 0..<2 { progress.acknowledged(token, index: index) } }
        #expect(progress.commits(onlyChanged: false).first?.offset == 4 && progress.unfinished == 0)
    }

    /// Of an event that was never produced no acknowledgement comes, and one that comes late is none of the event that has its slot now.
    @Test func whatIsLetGoLeavesNothingBehind() throws {
        var progress = FanOutProgress()
        var last: FanOutProgress.EventToken?
        for round in 0..<5_000 {
            try progress.own(Self.stream, committed: 0, metadata: "")
            let (token, _) = try must(progress.begin(Self.stream, offset: 0, endpointIDs: ["a"]))
            #expect(token.slot == 0 && FanOutProgress.EventToken.from(bits: token.bits(index: round)) == (token, round))
            if let last {
                #expect(progress.isCurrent(token) && !progress.isCurrent(last))
                progress.acknowledged(last, index: 0)
            }
            #expect(progress.unfinished == 1)
            last = token
            progress.disown([Self.stream])
        }
    }

    /// Its acknowledgements come all the same, and free the slot.
    @Test func aPartitionThatGoesOnElsewhereKeepsItsSlotsUntilTheyAreAcknowledged() throws {
        var progress = FanOutProgress()
        try progress.own(Self.stream, committed: 0, metadata: "")
        let (old, _) = try must(progress.begin(Self.stream, offset: 7, endpointIDs: ["a"]))
        progress.restart(Self.stream, at: 2)
        let (new, _) = try must(progress.begin(Self.stream, offset: 2, endpointIDs: ["a"]))
        #expect(progress.isCurrent(old) && old.slot != new.slot && progress.unfinished == 1)
        progress.acknowledged(old, index: 0)
        #expect(progress.commits(onlyChanged: false).first?.offset == 2 && progress.unfinished == 1)
        progress.acknowledged(new, index: 0)
        #expect(progress.commits(onlyChanged: false).first?.offset == 3 && progress.unfinished == 0)
    }

    @Test func unmatchedEventsAreDoneAtOnce() throws {
        var progress = FanOutProgress()
        try progress.own(Self.stream, committed: nil, metadata: "")
        let begun = progress.begin(Self.stream, offset: 7, endpointIDs: [])
        #expect(begun == nil)
        #expect(progress.commits(onlyChanged: false).first?.offset == 8)
    }
}
