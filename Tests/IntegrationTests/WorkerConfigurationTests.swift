import MartletWorker
import Testing

@Suite struct WorkerConfigurationTests {
    typealias Roles = Set<WorkerConfiguration.Role>

    @Test(
        arguments: [
            (1, [.fanOut, .delivery], 1), (2, [.fanOut, .delivery], 1), (4, [.fanOut, .delivery], 3), (1, [.delivery], 1),
            (2, [.delivery], 2),
        ] as [(Int, Roles, Int)])
    func aCoreIsLeftToFanOut(_ cores: Int, _ roles: Roles, _ lanes: Int) {
        #expect(WorkerConfiguration.lanes(cores: cores, roles) == lanes)
    }
}
